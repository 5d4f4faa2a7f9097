"""Names of exported files, made of columns that strangers filled.

Whatever a column holds, it stays one part of a path: without separators, without what a file
system or a shell takes for something else, never hidden, never ``..``, and short.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nightkiln.core.errors import BadInput, Problem

FIELD_BYTES_MAX = 80  # of one value in a name
COMPONENT_BYTES_MAX = 220  # of one part of a path; file systems take 255, an extension included
TEMPLATE_CHARS_MAX = 500
WIDTH_MAX = 20  # digits that a number is padded to
OPTION = "--name"
NOTHING = "none"  # what stands for null, and for what has no letter that may be in a name

# What a template may end in: it is checked against what the files are. jpeg is jpg.
EXTENSIONS = frozenset(
    ["png", "jpg", "jpeg", "gif", "webp", "mp4", "webm", "flac", "mp3", "ogg", "wav", "glb"]
)
# Names that the export itself uses, and names that Windows gives to devices.
RESERVED = frozenset(
    ["manifest.json", "sha256sums", "problems.jsonl", "metadata.jsonl", "readme.md"]
)
DEVICES = frozenset(
    ["con", "prn", "aux", "nul", *(f"{kind}{n}" for kind in ("com", "lpt") for n in range(10))]
)

_SEPARATING = re.compile(r'[\s/\\:*?"<>|]+')
# In values also what shells and globs read: names end up in other people's scripts.
_UNSAFE = re.compile(r"[\s/\\:*?\"<>|'`$;&!#(){}\[\]^]+")
_WIDTH = re.compile(r"0?([0-9]{1,2})")


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some text as it stands and, behind it, perhaps a column's value."""

    literal: str
    column: str | None = None
    width: int = 0


@dataclass(frozen=True, slots=True)
class Template:
    """``{id}-{seed}.png``, understood. Made by ``template``."""

    text: str
    pieces: tuple[_Piece, ...]
    ext: str | None  # that the template ends in; None: it leaves that to the files

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that names are made of."""
        named = (piece.column for piece in self.pieces)
        return tuple(dict.fromkeys(column for column in named if column is not None))

    def stem(self, values: Mapping[str, object], *, has_dots: bool = True) -> str:
        """The name of one output, without its extension.

        ``has_dots=False``: none in its last part, for readers that take the first for the
        beginning of the extension.
        """
        parts = "".join(
            piece.literal + (_value(values[piece.column], piece.width) if piece.column else "")
            for piece in self.pieces
        ).split("/")
        last = parts[-1] if has_dots else parts[-1].replace(".", "_")
        return "/".join([*(_folder(part) for part in parts[:-1]), _component(last)])

    def check_ext(self, ext: str, uri: str) -> None:
        """Nothing, if the template may name a file of this kind.

        Raises:
            BadInput: it promises another one.
        """
        if self.ext is not None and _alike(self.ext) != _alike(ext):
            what = f"{self.text!r} ends in .{self.ext}, but {uri} is a .{ext}"
            raise BadInput([Problem(OPTION, what, "end it in .{ext}, or leave the ending out")])


def template(text: str, columns: Sequence[str]) -> Template:
    """The template that ``text`` is, over these columns.

    ``{column}`` is a value, ``{column:06}`` a number with leading zeros. ``{id}`` is the job's id
    where the catalog has no such column.

    Raises:
        BadInput: it is none, names no column, or could lead out of the folder.
    """
    stem, ext = _without_ext(text)
    try:
        parsed = list(string.Formatter().parse(stem))
    except ValueError as error:
        raise _bad(text, str(error)) from error
    pieces = tuple(_piece(text, one, columns) for one in parsed)
    _check_literals(text, pieces)
    return Template(text, pieces, ext)


def cleaned(value: object) -> str:
    """A value as it may be in a name."""
    text = unicodedata.normalize("NFC", str(value)) if value is not None else NOTHING
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return _cut(_UNSAFE.sub("_", text.strip()).strip("."), FIELD_BYTES_MAX) or NOTHING


def _value(value: object, width: int) -> str:
    return cleaned(value).zfill(width)


def _without_ext(text: str) -> tuple[str, str | None]:
    if text.endswith(".{ext}"):
        return text.removesuffix(".{ext}"), None
    stem, dot, ext = text.rpartition(".")
    return (stem, ext.lower()) if dot and ext.lower() in EXTENSIONS else (text, None)


def _piece(
    text: str, parsed: tuple[str, str | None, str | None, str | None], columns: Sequence[str]
) -> _Piece:
    literal, field, spec, conversion = parsed
    if field is None:
        return _Piece(literal)
    by_name = {"id": "job_id"} | {name.lower(): name for name in columns}
    column = by_name.get(field.lower())
    if column is None:
        raise BadInput([Problem(OPTION, f"there is no column {field!r}", listed(columns))])
    width = _WIDTH.fullmatch(spec) if spec else None
    if conversion or (spec and width is None):
        raise _bad(text, "a column may have a width, as in {row:06}, and nothing else")
    return _Piece(literal, column, min(int(width[1]), WIDTH_MAX) if width is not None else 0)


def _check_literals(text: str, pieces: Sequence[_Piece]) -> None:
    if len(text) > TEMPLATE_CHARS_MAX:
        raise _bad(text, f"longer than {TEMPLATE_CHARS_MAX} characters")
    if not any(piece.column for piece in pieces):
        raise _bad(text, "names no column, so all files would have one name")
    plain = "".join(piece.literal for piece in pieces)
    strange = sorted({letter for letter in plain if _SEPARATING.match(letter)} - {"/", " "})
    if strange or not plain.isprintable():
        raise _bad(text, f"{''.join(strange)!r} cannot be in a name")
    # A value never is empty, nor all dots, so what matters is what stands between the slashes.
    shape = "".join(piece.literal + ("x" if piece.column else "") for piece in pieces)
    if any(part.strip(". ") == "" for part in shape.split("/")):
        raise _bad(text, "leads out of the folder, or has a part without a name")


def listed(columns: Sequence[str]) -> str:
    """The columns there are, for a message."""
    return f"columns: {', '.join(columns)}"


def _folder(text: str) -> str:
    part = _component(text)
    return f"_{part}" if part.lower() in RESERVED else part


def _component(text: str) -> str:
    """One part of a path, whatever its pieces came to together."""
    part = _cut(text.strip(), COMPONENT_BYTES_MAX)
    is_special = part[0] in ".-~" or part.partition(".")[0].rstrip().lower() in DEVICES
    return f"_{part}" if is_special else part


def _cut(text: str, bytes_max: int) -> str:
    """As many whole letters as fit, without the dots and blanks that Windows drops at an end."""
    return text.encode()[:bytes_max].decode(errors="ignore").rstrip(". ")


def _alike(ext: str) -> str:
    return "jpg" if ext == "jpeg" else ext


def _bad(text: str, what: str) -> BadInput:
    fix = "a template such as {id}-{seed} or {batch}/{row:06}-{index}"
    return BadInput([Problem(OPTION, f"{text[:TEMPLATE_CHARS_MAX]!r}: {what}", fix)])
