"""Writes compacted rows into files, those with as many outputs and attempts as each other together.

Rows have lists of outputs and attempts, and taking lists apart costs more than reading them. Of a
file in which every row has as many, the views take the first, the second and so on, and count them
without reading any. Its name says how many. Nearly all jobs have one or few outputs and one
attempt; what is rare shares a file without such a promise.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightkiln.store.manifest import CompactFile, Shape
from nightkiln.store.rows import RESULTS
from nightkiln.store.store import Store

FILE_ROWS_MAX = 500_000
GROUP_ROWS = 122_880  # of one row group, as DuckDB writes them
SORTED_ROWS = 16_384  # sorted by their shapes at once: shards are too small for that
SHAPE_ROWS_MIN = 10_000  # fewer rows of one shape do not deserve a file that has to be opened
OUTPUTS_MAX, ATTEMPTS_MAX = 4, 2  # of rows that get a file of their shape


@dataclass(slots=True)
class _Open:
    """Rows of one shape: those that wait, and the file that others are in already."""

    waiting: list[pa.Table] = field(default_factory=list)
    waiting_rows: int = 0
    writer: pq.ParquetWriter | None = None
    rows: int = 0  # in the file that is open
    has_files: bool = False

    def add(self, table: pa.Table) -> None:
        """So many rows more."""
        self.waiting.append(table)
        self.waiting_rows += table.num_rows


class Writing:
    """Writes tables into files of at most ``FILE_ROWS_MAX`` rows, and those into the store."""

    def __init__(self, store: Store, name: str, folder: Path) -> None:
        self._store = store
        self._name = name
        self._folder = folder
        self._shapes: defaultdict[Shape | None, _Open] = defaultdict(_Open)
        self._done: list[CompactFile] = []

    def all(self, tables: Iterable[pa.Table]) -> list[CompactFile]:
        """Write everything; the files, durable and not yet known to anybody."""
        try:
            for table in _joined(tables):
                for shape, rows in _by_shape(table):
                    self._shapes[shape].add(rows)
                self._write_some()
            self._mix_what_is_rare()
            for shape, rows in self._shapes.items():
                while rows.waiting_rows:
                    self._write(shape, rows)
                self._close(shape, rows)
        finally:
            for rows in self._shapes.values():
                if rows.writer is not None:
                    rows.writer.close()
        return self._done

    def _write_some(self) -> None:
        """Write what there is most of until what waits is no more than one row group."""
        while sum(rows.waiting_rows for rows in self._shapes.values()) >= GROUP_ROWS:
            self._write(*max(self._shapes.items(), key=lambda one: one[1].waiting_rows))

    def _mix_what_is_rare(self) -> None:
        """Put shapes with few rows together, unless all of these are of the same."""
        rare = [
            shape
            for shape, rows in self._shapes.items()
            if shape is None or (not rows.has_files and rows.waiting_rows < SHAPE_ROWS_MIN)
        ]
        if len(rare) <= 1:
            return
        waiting = [table for shape in rare for table in self._shapes[shape].waiting]
        for shape in rare:
            if shape is not None:
                del self._shapes[shape]
        mixed = self._shapes[None]
        mixed.waiting, mixed.waiting_rows = waiting, sum(table.num_rows for table in waiting)

    def _path(self, shape: Shape | None) -> Path:
        return self._folder / f"{shape or 'mixed'}.parquet"

    def _write(self, shape: Shape | None, rows: _Open) -> None:
        """One row group out of what waits."""
        count = min(rows.waiting_rows, GROUP_ROWS, FILE_ROWS_MAX - rows.rows)
        waiting = pa.concat_tables(rows.waiting)
        if rows.writer is None:
            rows.writer = pq.ParquetWriter(self._path(shape), RESULTS, compression="zstd")
            rows.has_files = True
        rows.writer.write_table(waiting.slice(0, count).combine_chunks(), row_group_size=count)
        rows.waiting_rows -= count
        rows.waiting = [waiting.slice(count)] if rows.waiting_rows else []
        rows.rows += count
        if rows.rows == FILE_ROWS_MAX:
            self._close(shape, rows)

    def _close(self, shape: Shape | None, rows: _Open) -> None:
        if rows.writer is None:
            return
        rows.writer.close()
        rows.writer = None
        path = self._path(shape)
        end = f"-{shape}" if shape is not None else ""
        key = f"{self._name}-{len(self._done):03d}{end}.parquet"
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
        self._store.blobs.put(key, path)
        path.unlink(missing_ok=True)
        self._done.append(CompactFile(key, rows.rows, size, sha256))
        rows.rows = 0


def _joined(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of ``SORTED_ROWS`` or more."""
    waiting = _Open()
    for table in tables:
        waiting.add(table)
        if waiting.waiting_rows >= SORTED_ROWS:
            yield pa.concat_tables(waiting.waiting)
            waiting = _Open()
    if waiting.waiting:
        yield pa.concat_tables(waiting.waiting)


def _by_shape(table: pa.Table) -> Iterator[tuple[Shape | None, pa.Table]]:
    """The rows by their shape, in their order; None: of one that gets no file of its own."""
    outputs = pc.list_value_length(table["out_index"])
    attempts = pc.list_value_length(table["att_id"])
    has_shape = pc.and_(
        pc.and_(pc.less_equal(outputs, OUTPUTS_MAX), pc.less_equal(attempts, ATTEMPTS_MAX)),
        pc.equal(attempts, table["attempt_count"]),
    )
    numbers = pc.add(pc.multiply(outputs, ATTEMPTS_MAX + 1), attempts)
    numbers = pc.if_else(pc.fill_null(has_shape, False), numbers, -1)
    found = sorted(pc.unique(numbers).to_pylist())
    for number in found:
        shape = Shape(*divmod(number, ATTEMPTS_MAX + 1)) if number >= 0 else None
        yield shape, table if len(found) == 1 else table.filter(pc.equal(numbers, number))
