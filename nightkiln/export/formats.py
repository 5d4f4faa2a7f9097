"""What every form of an export has in common: shards that take rows, and what comes after them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Protocol

from nightkiln.export.place import Made
from nightkiln.export.plan import Row

FILE_NAME, CAPTION = "file_name", "text"  # as Hugging Face's loaders and others call them


class Shard(Protocol):
    """One part of an export, being written."""

    def add(self, row: Row, data: bytes) -> None:
        """Take one output, verified; ``data`` is empty where files are not taken along."""

    def made(self) -> Sequence[Made]:
        """The files of this part, once its context has ended; not landed yet."""


class Layout(Protocol):
    """One form of an export."""

    takes_files: bool  # along; else their addresses in the store

    def shard(self, number: int) -> AbstractContextManager[Shard]:
        """Part ``number``; what it holds is written when the context ends."""

    def closing(self) -> Iterable[Made]:
        """What is written once all parts are there; not landed yet."""


def shown_names(names: Iterable[str], own: Iterable[str]) -> dict[str, str]:
    """What metadata columns are called beside those that a format has of its own."""
    taken = {name.lower() for name in own}
    shown: dict[str, str] = {}
    for name in names:
        free = name
        while free.lower() in taken:
            free = f"catalog_{free}"
        taken.add(free.lower())
        shown[name] = free
    return shown


def json_line(row: Row) -> bytes:
    """An output's name, caption and metadata as one line of JSON."""
    own = {FILE_NAME: row.path, CAPTION: row.caption}
    shown = shown_names(row.metadata, own)
    values = {**own, **{shown[name]: plain(value) for name, value in row.metadata.items()}}
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def plain(value: object) -> object:
    """A value of a table in terms of JSON, which has no word for what is no number."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value if value is None or isinstance(value, str | bool | int) else str(value)


def caption_bytes(row: Row) -> bytes:
    """What a caption's own file holds."""
    return (row.caption if row.caption is not None else "").encode()


def typed(values: Mapping[str, Any], shown: Mapping[str, str]) -> dict[str, Any]:
    """Metadata under the names that it is shown by."""
    return {shown[name]: value for name, value in values.items()}
