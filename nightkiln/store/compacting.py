"""Many small files become few: the shards of a day are folded into files of a size that reads well.

    1  the shards' rows are written into new files, without those that have lost against another
    2  the next manifest, which names those files and says what they replace, is created: the commit
    3  ``views.sql`` and ``nightkiln.duckdb`` are written anew, and it is said since when
    4  what was replaced a day before, and everybody has newer views since, is removed

A compaction that is killed before the commit leaves files that nobody knows; after it, work for the
next one. A run that commits meanwhile is in nobody's way: its shard is read until the next time.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightkiln.ports.blobs import Blobs
from nightkiln.store.claims import newest_claim
from nightkiln.store.fetching import looked_into
from nightkiln.store.folding import Day, Folding, Input, folding, unreadable
from nightkiln.store.manifest import (
    CompactFile,
    Folded,
    Manifest,
    Retired,
    Shard,
    create_manifest,
    manifest_key,
    manifest_numbers,
    newest_manifest,
    shard_of,
    shown_since,
)
from nightkiln.store.rows import as_results
from nightkiln.store.store import Store
from nightkiln.store.writing import Writing
from nightkiln.temporary import temporary_folder

GRACE_S = 24 * 3600.0  # for queries that run, and views that somebody has open
MANIFESTS_KEPT = 3

Tell = Callable[[int, int], None]  # bytes read, of how many


@dataclass(frozen=True, slots=True)
class Compacted:
    """What came of a compaction."""

    manifest: int  # its number; 0: there is nothing to compact yet
    shards: int = 0
    files: int = 0
    rows: int = 0
    rows_lost: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    removed: int = 0  # files that were replaced long enough ago
    was_late: bool = False  # another compaction was faster; this one has changed nothing


def compact(store: Store, *, now_s: float, grace_s: float = GRACE_S, tell: Tell) -> Compacted:
    """Fold every shard that is there into compacted files, and clear away what was replaced before.

    Blocking; memory is bounded whatever there is to fold.

    Raises:
        StoreUnusable: something cannot be read or written; the store is as good as before.
    """
    wanted = folding(store)
    done = Compacted(wanted.base.number)
    if wanted.shards:
        done = _folded(store, wanted, now_s=now_s, tell=tell)
    # Also when there was nothing to fold: the last compaction may have died before it came to this.
    store.refresh_views()
    return replace(done, removed=clear(store, now_s=now_s, grace_s=grace_s))


def _folded(store: Store, wanted: Folding, *, now_s: float, tell: Tell) -> Compacted:
    number = wanted.base.number + 1
    store.upgrade()
    written: list[CompactFile] = []
    read = Counted(wanted.bytes, tell)
    store.staging.mkdir(parents=True, exist_ok=True)
    with temporary_folder(store.staging) as folder:
        for day in wanted.days:
            name = f"compact/dt={day.date}/{number:06d}-{uuid.uuid4().hex[:12]}"
            written += Writing(store, name, folder).all(_tables(store, day, read))
    manifest = _next(store.blobs, wanted, written, now_s=now_s)
    is_ours = create_manifest(store.blobs, manifest)
    if not is_ours:
        for one in written:
            store.blobs.remove(one.key)
        return Compacted(number, was_late=True)
    return Compacted(
        manifest=number,
        shards=len(wanted.shards),
        files=len(written),
        rows=sum(one.rows for one in written),
        rows_lost=wanted.rows_lost,
        bytes_read=wanted.bytes,
        bytes_written=sum(one.bytes for one in written),
    )


@dataclass(slots=True)
class Counted:
    """How much was read, told to somebody."""

    total: int
    tell: Tell
    so_far: int = 0

    def add(self, size: int) -> None:
        """So much more was read."""
        self.so_far += size
        self.tell(self.so_far, self.total)


def _tables(store: Store, day: Day, read: Counted) -> Iterator[pa.Table]:
    """The rows of a day that count, in the columns of today, a bounded number at a time."""
    for one, data in looked_into(day.inputs, store.blobs.get):
        try:
            yield from _kept(one, data)
        except (pa.ArrowException, KeyError, ValueError, AssertionError) as error:
            raise unreadable(store, f"{one.key}: {error}") from error
        read.add(one.bytes)


def _kept(one: Input, data: bytes) -> Iterator[pa.Table]:
    lost = pa.array(one.lost, pa.int64())
    first = 0
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        for group in range(file.num_row_groups):
            table = as_results(file.read_row_group(group, use_threads=False))
            rows = table.num_rows
            if one.lost:
                numbers = pa.array(range(first, first + rows), pa.int64())
                table = table.filter(pc.invert(pc.is_in(numbers, lost)))
            first += rows
            yield table


def _next(
    blobs: Blobs, wanted: Folding, written: Iterable[CompactFile], *, now_s: float
) -> Manifest:
    """The manifest after ``wanted``."""
    base, number = wanted.base, wanted.base.number + 1
    again = {one.key for one in wanted.again}
    folded = {one.run: one for one in base.folded}
    for shard in wanted.shards:
        folded[shard.run] = Folded(shard.run, shard.number + 1, number)
    fresh = {shard.run for shard in wanted.shards}
    there = {one.run for key in blobs.list("results/") if (one := shard_of(key)) is not None}
    compacted = set(blobs.list("compact/"))
    return Manifest(
        number=number,
        made_s=now_s,
        files=(*(one for one in base.files if one.key not in again), *written),
        folded=tuple(
            one
            for run, one in sorted(folded.items())
            if run in fresh or run in there or not _is_over(blobs, run)
        ),
        retired=(
            *(one for one in base.retired if one.key in compacted),
            *(Retired(key, number) for key in sorted(again)),
        ),
    )


def _is_over(blobs: Blobs, run: str) -> bool:
    """Whether a run commits nothing any more; it need not be remembered which shards it had."""
    told = Shard("", run, 0)
    claim = newest_claim(blobs, told.batch)
    return claim is None or claim.epoch > told.epoch or claim.ended is not None


def clear(store: Store, *, now_s: float, grace_s: float) -> int:
    """Remove what was replaced, once every reader has had ``grace_s`` to come to newer views."""
    manifest, shown = newest_manifest(store.blobs), shown_since(store.blobs)
    removed = 0
    for key in _replaced(
        store.blobs, manifest, lambda since: _is_old(since, shown, now_s, grace_s)
    ):
        store.blobs.remove(key)
        removed += 1
    for number in manifest_numbers(store.blobs):
        if number <= manifest.number - MANIFESTS_KEPT and _is_old(
            number + 1, shown, now_s, grace_s
        ):
            store.blobs.remove(manifest_key(number))
            store.blobs.remove(manifest_key(number, "shown"))
    return removed


def waiting(blobs: Blobs, manifest: Manifest) -> list[str]:
    """Files that are replaced and still there."""
    return list(_replaced(blobs, manifest, lambda _since: True))


def _replaced(blobs: Blobs, manifest: Manifest, is_wanted: Callable[[int], bool]) -> Iterator[str]:
    folded = {one.run: one for one in manifest.folded if is_wanted(one.since)}
    for key in list(blobs.list("results/")):
        shard = shard_of(key)
        if shard is not None and shard.run in folded and shard.number < folded[shard.run].below:
            yield key
    retired = {one.key for one in manifest.retired if is_wanted(one.since)}
    yield from (key for key in list(blobs.list("compact/")) if key in retired)


def _is_old(since: int, shown: Mapping[int, float], now_s: float, grace_s: float) -> bool:
    """Whether the views have gone by manifest ``since``, or a newer one, for long enough."""
    times = [at_s for number, at_s in shown.items() if number >= since]
    return bool(times) and now_s - min(times) >= grace_s
