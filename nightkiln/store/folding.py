"""What a compaction has before it: which shards, which files again, which rows have lost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nightkiln.core.errors import StoreUnusable
from nightkiln.ports.blobs import Blobs
from nightkiln.store.manifest import CompactFile, Manifest, Shard, newest_manifest, shard_of
from nightkiln.store.sql_files import glob_root, sql_file
from nightkiln.store.store import Store
from nightkiln.temporary import temporary_folder

if TYPE_CHECKING:
    import duckdb

SMALL_ROWS = 250_000  # a file with fewer is written again when its day gets more rows
MEMORY = "512MB"  # of DuckDB, which goes to the disk for more


@dataclass(frozen=True, slots=True)
class Input:
    """A file to be read: a shard, or a compacted file whose rows are written again."""

    key: str
    bytes: int
    lost: tuple[int, ...] = ()  # rows that are left out, by their number in the file


@dataclass(frozen=True, slots=True)
class Day:
    """Everything that becomes the compacted files of one batch date."""

    date: str
    inputs: tuple[Input, ...]  # compacted files first, then shards in the order of the commits


@dataclass(frozen=True, slots=True)
class Folding:
    """One compaction, before anything is written."""

    base: Manifest
    days: tuple[Day, ...]
    shards: tuple[Shard, ...]
    again: tuple[CompactFile, ...]  # compacted files among the inputs
    rows_lost: int

    @property
    def bytes(self) -> int:
        """What has to be read."""
        return sum(one.bytes for day in self.days for one in day.inputs)


def folding(store: Store) -> Folding:
    """Look at what there is to compact; changes nothing.

    Raises:
        StoreUnusable: a file cannot be read.
    """
    base = newest_manifest(store.blobs)
    found = fresh_shards(store.blobs, base)
    lost = _losing_rows(store, base, [shard for shard, _ in found]) if found else {}
    days = {shard.day for shard, _ in found}
    again = tuple(
        one for one in base.files if one.key in lost or (one.rows < SMALL_ROWS and one.day in days)
    )
    inputs: dict[str, list[Input]] = defaultdict(list)
    for one in again:
        inputs[one.day].append(Input(one.key, one.bytes, lost.get(one.key, ())))
    for shard, size in found:
        inputs[shard.day].append(Input(shard.key, size, lost.get(shard.key, ())))
    return Folding(
        base=base,
        days=tuple(Day(date, tuple(files)) for date, files in sorted(inputs.items())),
        shards=tuple(shard for shard, _ in found),
        again=again,
        rows_lost=sum(len(rows) for rows in lost.values()),
    )


def fresh_shards(blobs: Blobs, base: Manifest) -> list[tuple[Shard, int]]:
    """Shards that no compacted file replaces, and their bytes, each run's without a gap.

    A run commits its shards in order. Behind a gap lies what a listing has missed while it was
    committed, and a manifest says which shards it replaces by nothing but a number.
    """
    runs: dict[str, list[tuple[Shard, int]]] = defaultdict(list)
    for entry in blobs.entries("results/"):
        shard = shard_of(entry.key)
        if shard is not None and not base.replaces(shard):
            runs[shard.run].append((shard, entry.size))
    found: list[tuple[Shard, int]] = []
    for run, shards in runs.items():
        shards.sort(key=lambda one: one[0].number)
        first = base.below.get(run, 0)
        found += [
            (shard, size)
            for expected, (shard, size) in enumerate(shards, first)
            if shard.number == expected
        ]
    return found


def _losing_rows(
    store: Store, base: Manifest, shards: Sequence[Shard]
) -> Mapping[str, tuple[int, ...]]:
    """Numbers of the rows that lose, by file."""
    import duckdb

    compacted = ""
    if base.files:
        files = _names(store, (one.key for one in base.files))
        compacted = sql_file("losing_rows_compacted", files=files)
    names = _names(store, (shard.key for shard in shards))
    sql = sql_file("losing_rows", shards=names, compacted=compacted)
    lost: dict[str, list[int]] = defaultdict(list)
    with temporary_folder() as folder, _bounded(store, folder) as con:
        try:
            rows = con.execute(sql).fetchall()
        except duckdb.Error as error:
            raise unreadable(store, str(error)) from error
    for filename, row in rows:
        lost[filename.removeprefix(store.uri.rstrip("/") + "/")].append(row)
    return {key: tuple(numbers) for key, numbers in lost.items()}


def unreadable(store: Store, said: str) -> StoreUnusable:
    """The error for a committed file that is not what was committed."""
    return StoreUnusable(
        f"{store.uri}: {said.strip()}; nothing was changed, 'nightkiln store verify' tells more"
    )


def _names(store: Store, keys: Iterable[str]) -> str:
    root = glob_root(store.uri)
    return ", ".join(f"'{root}{key}'" for key in keys)


def _bounded(store: Store, folder: Path) -> duckdb.DuckDBPyConnection:
    import duckdb

    con = duckdb.connect()
    con.execute("set enable_progress_bar = false")
    con.execute(f"set memory_limit = '{MEMORY}'")
    con.execute("set temp_directory = ?", [str(folder)])
    store.register(con)
    return con
