"""CSV for spreadsheets: what is known of each output, and its address in the store.

A spreadsheet carries out what begins with ``=``, and prompts are strangers'. A text that begins so
gets an apostrophe in front, which spreadsheets take for "this is text"; so does one that begins
with an apostrophe, so that taking one away always gives back what was there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from nightkiln.export.formats import CAPTION, plain, shown_names
from nightkiln.export.place import Made, Place, Stream
from nightkiln.export.plan import Plan, Row

# What makes a spreadsheet calculate, in both widths that East Asian input has, and our own mark.
_FORMULA = frozenset("=+-@\uff1d\uff0b\uff0d\uff20'")
SHARD_DIGITS = 5


class Sheets:
    """``rows-00000.csv`` and so on, each with the same header."""

    takes_files = False

    def __init__(self, place: Place, plan: Plan) -> None:
        self._place = place
        self._header = [CAPTION, *shown_names(plan.metadata.names, [CAPTION]).values()]

    @contextmanager
    def shard(self, number: int) -> Iterator[_Sheet]:
        path = f"rows-{number:0{SHARD_DIGITS}d}.csv"
        with self._place.stream(path) as stream:
            sheet = _Sheet(stream)
            sheet.line(self._header)
            yield sheet
        sheet.files = [Made(path, stream.sha256, stream.size)]

    def closing(self) -> Sequence[Made]:
        return ()


class _Sheet:
    """One file of lines."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.files: Sequence[Made] = ()

    def add(self, row: Row, data: bytes) -> None:
        assert not data, "a sheet has no room for files"
        self.line([row.caption, *row.metadata.values()])

    def line(self, values: Iterable[Any]) -> None:
        """One line; RFC 4180, so with both of its line's ends."""
        self._stream.write((",".join(map(cell, values)) + "\r\n").encode())

    def made(self) -> Sequence[Made]:
        return self.files


def cell(value: object) -> str:
    """A value as it stands between two commas; null is nothing, empty text is quotes.

    Every text is quoted: where the list separator is another, none can begin a second cell.
    """
    value = plain(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if _begins_formula(text):
        text = "'" + text
    return '"' + text.replace('"', '""') + '"'


def _begins_formula(text: str) -> bool:
    """Whether the first letter that shows is one of those; blanks before it do not help."""
    shown = (letter for letter in text if letter.isprintable() and not letter.isspace())
    return next(shown, "") in _FORMULA or text[:1] in {"\t", "\r", "\n"}
