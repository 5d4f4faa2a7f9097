"""Loose files under names of the user's making, each with its caption beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from nightkiln.export.formats import caption_bytes, json_line
from nightkiln.export.place import WORK, Made, Place
from nightkiln.export.plan import Plan, Row

METADATA = "metadata.jsonl"  # read beside images by Hugging Face's ``imagefolder`` too


class LooseFiles:
    """``<name>.png`` and ``<name>.txt``; ``metadata.jsonl`` has a line for each."""

    takes_files = True

    def __init__(self, place: Place, plan: Plan) -> None:
        self._place = place
        self._parts = plan.parts

    @contextmanager
    def shard(self, number: int) -> Iterator[_Files]:
        files = _Files(self._place)
        yield files
        self._place.write(_lines_path(number), b"".join(files.lines))

    def closing(self) -> Sequence[Made]:
        with self._place.stream(METADATA) as stream:
            for number in range(self._parts):
                lines = self._place.read(_lines_path(number))
                assert lines is not None, "a part is recorded after its lines have landed"
                stream.write(lines)
        return [Made(METADATA, stream.sha256, stream.size)]


class _Files:
    """Those of one part."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._made: list[Made] = []
        self.lines: list[bytes] = []

    def add(self, row: Row, data: bytes) -> None:
        self._made.append(self._place.write(row.path, data, sha256=row.sha256))
        self._made.append(self._place.write(f"{row.name}.txt", caption_bytes(row)))
        self.lines.append(json_line(row))

    def made(self) -> Sequence[Made]:
        return self._made


def _lines_path(number: int) -> str:
    return f"{WORK}/lines-{number:06d}.jsonl"
