"""A gallery's data as the page reads it: scripts that hand over arrays.

A page that is opened as a file may not fetch other files, but it may run scripts that lie beside
it. What came from strangers is only ever a value in an array, never a key, a name or markup; the
scripts are plain ASCII, and ``<`` is spelled out, so that nothing in them can end a script or a
line. The page puts every value into the document as text.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from typing import Any

from nightkiln.gallery.links import Link
from nightkiln.gallery.thumbnails import is_digest
from nightkiln.gallery.tiles import Facts, Tile

ASSETS = "data/gallery"  # in the package
INDEX = "index.html"
SCRIPTS = ("data.js", "text.js", "filter.js", "marks.js", "grid.js", "viewer.js", "main.js")
STYLE = "gallery.css"
TILES_PER_FILE = 500  # the first file is painted before the second is read
NAMES_MAX = 60  # catalog columns to filter and sort by
TEXT_CHARS_MAX = 2000  # of a prompt in the grid's data; its details hold all
VALUE_CHARS_MAX = 300  # of a column there
ERROR_CHARS_MAX = 300

# What a tile is in the page's data, in this order; ``columns`` are [number of the name, value].
FIELDS = (
    "job", "output", "row", "status", "fault", "error", "prompt", "negative", "seed", "provider",
    "gpu", "host", "usd", "seconds", "finished", "media", "width", "height", "thumb", "alike",
    "columns",
)  # fmt: skip


class Names:
    """Numbers for things in the order in which they are first seen."""

    def __init__(self, most: int | None = None) -> None:
        self.numbers: dict[Any, int] = {}
        self._most = most

    def number(self, name: Any) -> int | None:
        """That of ``name``; None where there are too many already."""
        if name not in self.numbers and self._most is not None and len(self.numbers) >= self._most:
            return None
        return self.numbers.setdefault(name, len(self.numbers))


def script(kind: str, number: int, value: object) -> str:
    """A script that hands ``value`` to the page."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return f'take("{kind}",{number},{text});\n'


def tile_row(tile: Tile, *, has_thumbnail: bool, columns: Names, alike: Names) -> list[Any]:
    """A tile as the grid needs it; the order is that of ``FIELDS``."""
    file = tile.file
    named = [[columns.number(name), plain(value)] for name, value in tile.columns.items()]
    return [
        tile.job_id,
        file.index if file is not None else None,
        tile.row,
        tile.status,
        tile.fault,
        cut(tile.error, ERROR_CHARS_MAX),
        cut(tile.prompt, TEXT_CHARS_MAX),
        cut(tile.negative, TEXT_CHARS_MAX),
        str(tile.seed) if tile.seed is not None else None,  # JavaScript would round it
        tile.provider,
        tile.gpu,
        tile.host,
        finite(tile.usd),
        finite(tile.gpu_seconds),
        finite(tile.finished_s),
        file.media if file is not None else None,
        file.width if file is not None else None,
        file.height if file is not None else None,
        file.sha256 if has_thumbnail and file is not None and is_digest(file.sha256) else None,
        alike.number(tile.alike()),
        [pair for pair in named if pair[0] is not None],
    ]


def detail(tile: Tile, *, link: Link, again: Callable[[Tile], str]) -> dict[str, Any]:
    """What is shown of a tile beside its picture."""
    return {
        "link": link(tile.file.uri) if tile.file is not None else None,
        "bytes": tile.file.size if tile.file is not None else None,
        "attempts": tile.attempt_count,
        "error": tile.error,
        "again": again(tile),
        "params": [[name, spelled(value)] for name, value in tile.params.items()],
        "columns": [[name, spelled(value)] for name, value in tile.columns.items()],
        "tries": [
            [one["status"], one["fault"], one["provider"], one["host"], one["error"]]
            for one in tile.tries
        ],
    }


def head(batch: str, facts: Facts, *, shown: int, columns: Iterable[str]) -> dict[str, Any]:
    """What the page is told first."""
    return {
        "batch": batch,
        **asdict(facts),
        "shown": shown,
        "files": -(-shown // TILES_PER_FILE),
        "tiles_per_file": TILES_PER_FILE,
        "fields": FIELDS,
        "columns": list(columns),
    }


def index_html(title: str, folder: str, nonce: str, origins: Sequence[str]) -> str:
    """The page itself: everything else comes from ``folder``, beside it."""
    filled = {
        "title": html.escape(title),
        "folder": html.escape(folder),
        "nonce": html.escape(nonce),
        "policy": html.escape(policy(nonce, origins)),
        "scripts": "\n".join(
            f'<script nonce="{html.escape(nonce)}" src="{html.escape(folder)}/{name}" defer>'
            "</script>"
            for name in SCRIPTS
        ),
    }
    text = asset(INDEX).decode()
    for name, value in filled.items():
        text = text.replace(f"[[{name}]]", value)
    return text


def policy(nonce: str, origins: Sequence[str]) -> str:
    """Nothing runs, loads or is sent anywhere but what this page brings along.

    ``file:`` beside ``'self'``: browsers do not agree whether a file is its own site.
    """
    places = " ".join(["'self'", "file:", *origins])
    rules: Mapping[str, str] = {
        "default-src": "'none'",
        "script-src": f"'nonce-{nonce}'",
        "style-src": f"'nonce-{nonce}'",
        "img-src": places,
        "media-src": places,
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "nightkiln",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def asset(name: str) -> bytes:
    """A file of the shipped page."""
    return resources.files("nightkiln").joinpath(f"{ASSETS}/{name}").read_bytes()


def plain(value: Any) -> str | float | int | bool | None:
    """A value of a column as something that can be filtered and sorted by."""
    if isinstance(value, bool | int) or value is None:
        return value if not isinstance(value, int) or abs(value) < 2**53 else str(value)
    if isinstance(value, float):
        return finite(value)
    return cut(spelled(value), VALUE_CHARS_MAX)


def spelled(value: Any) -> str:
    """A value as text: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def cut(text: str | None, chars_max: int) -> str | None:
    """``text``, if it is longer its beginning."""
    if text is None or len(text) <= chars_max:
        return text
    return text[: chars_max - 1] + "\u2026"


def finite(value: float | None) -> float | None:
    """A number that JSON has; None for the others."""
    return value if value is not None and abs(value) < float("inf") else None
