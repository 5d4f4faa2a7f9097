"""What verify finds and gc removes, and what neither may touch."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from nightkiln.core.errors import StoreUnusable
from nightkiln.core.model import BatchId, Settled
from nightkiln.store.claim import acquire
from nightkiln.store.claims import newest_claim, write_ended
from nightkiln.store.collecting import OLDER_THAN_S, Collectable, Collected, collect, collectable
from nightkiln.store.commit import create_or_same, shard_key
from nightkiln.store.compacting import compact
from nightkiln.store.manifest import newest_manifest
from nightkiln.store.processes import Process
from nightkiln.store.records import BatchStart, write_batch_start
from nightkiln.store.rows import parquet_bytes, rows_table
from nightkiln.store.stats import stats
from nightkiln.store.store import Store
from nightkiln.store.verifying import Kind, Part, Verified, verify
from nightkiln.testing.settled import BATCH, done, failed, job, picture
from tests.adapters.dying import died

STEPS_MAX = 80
NOW_S = 2e9  # files are as old as they are told to be
LONG_AGO_S = NOW_S - 2 * OLDER_THAN_S
HERE = f"images/{BATCH.batch}/00"


def quiet(_what: str, _so_far: int, _total: int) -> None:
    """Nobody is told."""


def commit(
    store: Store, settled: Sequence[Settled], batch: BatchId = BATCH, number: int = 0
) -> None:
    for one in settled:
        for output in one.outputs:
            store.blobs.put(output.uri, picture(int(one.job.values["seed"])))
    key = shard_key(batch, number)
    create_or_same(store.blobs, key, parquet_bytes(rows_table(settled, batch, key)))


def left(store: Store, key: str, *, modified_s: float = LONG_AGO_S) -> str:
    """A file that no row names."""
    store.blobs.put(key, b"of a render that lost")
    os.utime((store.root / key), (modified_s, modified_s))
    return key


def ended(store: Store, *, exit_code: int | None = 0) -> None:
    epoch = acquire(store.blobs, BATCH.batch, now_s=NOW_S - 100).epoch
    write_ended(store.blobs, BATCH.batch, epoch, {"exit_code": exit_code})


def acquired(store: Store, now_s: float) -> int:
    return acquire(store.blobs, BATCH.batch, now_s=now_s).epoch


def begun(store: Store, epoch: int) -> None:
    """A run writes its first row."""
    process = Process("kiln.example", 42, "", "")
    start = BatchStart(replace(BATCH, epoch=epoch), "c" * 64, process, NOW_S, 4, "0")
    write_batch_start(store.blobs, start)


def kinds(found: Verified) -> Counter[Kind]:
    assert found.problems == len(found.findings)
    return found.counts


def found_by_gc(store: Store) -> Collectable:
    return collectable(store, older_than_s=OLDER_THAN_S, now_s=NOW_S, tell=quiet)


def removed_by_gc(store: Store, found: Collectable) -> Collected:
    return collect(store, found, clock=lambda: NOW_S, tell=quiet)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A night that ended in order."""
    made = Store.open(str(tmp_path / "store"), create=True)
    commit(made, [done(1), failed(2), done(3)])
    commit(made, [done(4)], number=1)
    ended(made)
    return made


@pytest.mark.parametrize("is_compacted", [False, True], ids=["fresh", "compacted"])
@pytest.mark.parametrize("is_quick", [False, True], ids=["whole", "quick"])
def test_a_store_in_order_has_no_problem(
    store: Store, *, is_compacted: bool, is_quick: bool
) -> None:
    if is_compacted:
        compact(store, now_s=NOW_S, tell=lambda _read, _total: None)

    found = verify(store, is_quick=is_quick, tell=quiet)

    assert (found.problems, found.rows, found.files) == (0, 3, 3)
    assert found.checked == (0 if is_quick else 3)
    assert found.bytes == (0 if is_quick else sum(len(picture(n)) for n in (1, 3, 4)))


def test_every_kind_of_damage_is_found_with_the_job_that_it_means(store: Store) -> None:
    uris = {number: done(number).outputs[0].uri for number in (1, 3, 4)}
    store.blobs.remove(uris[1])
    store.blobs.put(uris[3], picture(3) + b"more")
    store.blobs.put(uris[4], picture(4)[::-1])
    left(store, f"{HERE}/nobodys.png")

    found = verify(store, is_quick=False, tell=quiet)

    assert kinds(found) == {
        Kind.MISSING: 1,
        Kind.WRONG_SIZE: 1,
        Kind.WRONG_SHA256: 1,
        Kind.ORPHAN: 1,
    }
    assert {(one.kind, one.job_id) for one in found.findings} == {
        (Kind.MISSING, job(1).id),
        (Kind.WRONG_SIZE, job(3).id),
        (Kind.WRONG_SHA256, job(4).id),
        (Kind.ORPHAN, None),
    }
    assert Kind.WRONG_SHA256 not in verify(store, is_quick=True, tell=quiet).counts


@pytest.mark.parametrize("damage", [b"", b"not rows at all", None], ids=["empty", "other", "cut"])
def test_a_shard_that_cannot_be_read_is_told_and_gc_then_removes_nothing(
    store: Store, damage: bytes | None
) -> None:
    key = shard_key(BATCH, 0)
    store.blobs.put(key, damage if damage is not None else store.blobs.get(key)[:-9])
    left(store, f"{HERE}/nobodys.png")

    found = verify(store, is_quick=True, tell=quiet)

    assert found.counts[Kind.DAMAGED_ROWS] == 1
    with pytest.raises(StoreUnusable, match="nothing is removed"):
        found_by_gc(store)
    with pytest.raises(StoreUnusable, match="store verify"):
        compact(store, now_s=NOW_S, tell=lambda _read, _total: None)
    assert newest_manifest(store.blobs).number == 0


def test_a_shard_under_another_name_and_a_compacted_file_of_other_bytes_are_told(
    store: Store,
) -> None:
    store.blobs.put("results/dt=2026-01-31/copy.parquet", store.blobs.get(shard_key(BATCH, 0)))
    assert kinds(verify(store, is_quick=True, tell=quiet)) == {Kind.DAMAGED_ROWS: 1}
    store.blobs.remove("results/dt=2026-01-31/copy.parquet")
    compact(store, now_s=NOW_S, tell=lambda _read, _total: None)
    [file] = newest_manifest(store.blobs).files
    whole = store.blobs.get(file.key)

    for damaged in (whole + b"x", bytes([*whole[:50], whole[50] ^ 1, *whole[51:]])):
        store.blobs.put(file.key, damaged)
        assert verify(store, is_quick=True, tell=quiet).counts[Kind.DAMAGED_ROWS] == 1
    store.blobs.remove(file.key)
    assert verify(store, is_quick=True, tell=quiet).counts[Kind.DAMAGED_ROWS] == 1


@pytest.mark.parametrize("kind", ["leases", "batches", "quotes", "charges"])
def test_a_record_that_cannot_be_read_is_told_since_questions_fail_by_it(
    store: Store, kind: str
) -> None:
    key = f"{kind}/dt=2026-01-31/torn.parquet"
    store.blobs.put(key, b"PAR1 and no more")

    found = verify(store, is_quick=True, tell=quiet)

    assert [(one.kind, one.key) for one in found.findings] == [(Kind.DAMAGED_RECORD, key)]
    assert found_by_gc(store).all == []  # what images belong to is known all the same


def test_gc_shows_first_and_then_removes_what_is_old_and_nobodys(store: Store) -> None:
    orphan = left(store, f"{HERE}/nobodys.png")
    young = left(store, f"{HERE}/young.png", modified_s=NOW_S - 60)
    unknown = left(store, "compact/dt=2026-01-31/000001-dead-000.parquet")
    before = newest_claim(store.blobs, BATCH.batch)

    found = found_by_gc(store)

    assert {one.key for one in found.all} == {orphan, unknown}
    assert found.young == 1
    assert store.blobs.size(orphan) is not None

    assert removed_by_gc(store, found).files == 2

    assert store.blobs.size(orphan) is None
    assert store.blobs.size(young) is not None
    assert [one.key for one in verify(store, is_quick=False, tell=quiet).findings] == [young]
    after = newest_claim(store.blobs, BATCH.batch)
    assert before is not None
    assert after is not None
    assert before.ended is not None
    assert after.ended is not None
    assert after.ended["exit_code"] == before.ended["exit_code"]
    assert found_by_gc(store).all == []


def test_pages_and_pictures_that_lie_in_a_store_are_for_people_to_keep(store: Store) -> None:
    page = left(store, f"gallery/{BATCH.batch}/index.html")
    sheet = left(store, f"contact-sheet-{BATCH.batch}.png")

    assert found_by_gc(store).all == []
    assert verify(store, is_quick=False, tell=quiet).problems == 0
    assert None not in {store.blobs.size(page), store.blobs.size(sheet)}


@pytest.mark.parametrize("how", ["works", "was killed"])
def test_what_a_run_may_still_commit_is_neither_a_problem_nor_removed(
    store: Store, how: str
) -> None:
    epoch = acquire(store.blobs, BATCH.batch, now_s=NOW_S).epoch
    begun(store, epoch)
    if how == "was killed":
        write_ended(store.blobs, BATCH.batch, epoch, {"exit_code": None})
    left(store, f"{HERE}/finished.png")

    found = found_by_gc(store)
    verified = verify(store, is_quick=False, tell=quiet)

    assert (found.all, found.kept) == ([], {BATCH.batch: 1})
    assert (verified.problems, verified.adoptable) == (0, 1)


def test_a_batch_that_was_worked_on_between_looking_and_removing_is_left_alone(
    store: Store,
) -> None:
    orphan = left(store, f"{HERE}/nobodys.png")
    found = found_by_gc(store)

    ended(store)  # a run has come and gone: what was nobody's may be its
    between = removed_by_gc(store, found)
    held = found_by_gc(store)
    acquire(store.blobs, BATCH.batch, now_s=NOW_S)
    during = removed_by_gc(store, held)

    assert (between.files, during.files) == (0, 0)
    assert list(between.skipped) == list(during.skipped) == [BATCH.batch]
    assert store.blobs.size(orphan) is not None


def test_a_collection_that_was_killed_is_ended_by_the_next_one(store: Store) -> None:
    first, second = (left(store, f"{HERE}/nobodys-{n}.png") for n in (1, 2))
    acquire(store.blobs, BATCH.batch, now_s=0.0)  # it holds the batch, removes one, and dies
    store.blobs.remove(first)

    found = found_by_gc(store)

    assert [one.key for one in found.all] == [second]
    assert removed_by_gc(store, found).files == 1
    assert verify(store, is_quick=True, tell=quiet).problems == 0


def test_a_batch_stands_as_its_last_run_left_it_however_many_collections_were_killed(
    store: Store,
) -> None:
    write_ended(store.blobs, BATCH.batch, acquired(store, NOW_S), {"exit_code": 1, "failed": 1})
    for number in range(2):  # each holds the batch and dies
        acquired(store, NOW_S + 1000 * (number + 1))
    left(store, f"{HERE}/nobodys.png")

    collect(store, found_by_gc(store), clock=lambda: NOW_S + 9000, tell=quiet)

    claim = newest_claim(store.blobs, BATCH.batch)
    assert claim is not None
    assert claim.ended is not None
    assert (claim.ended["exit_code"], claim.ended["failed"]) == (1, 1)


def collected(store: Store) -> None:
    """All that there is to collect just now."""
    removed_by_gc(store, found_by_gc(store))


@pytest.mark.parametrize("how", ["killed", "power cut", "disk full"])
@pytest.mark.parametrize(
    "every",
    [pytest.param(1, marks=pytest.mark.long), pytest.param(5, marks=pytest.mark.nights)],
    ids=["each step", "sample"],
)
def test_a_collection_that_dies_at_any_step_takes_nobodys_file_and_the_next_one_ends_its_work(
    store: Store, tmp_path: Path, *, how: str, every: int
) -> None:
    orphans = [left(store, f"{HERE}/nobodys-{number}.png") for number in range(3)]
    orphans += [left(store, f"compact/dt=2026-01-31/000001-dead-{n:03d}.parquet") for n in (0, 1)]
    orphans += [left(store, "incoming/attempt/0")]
    for step in range(1, STEPS_MAX, every):
        folder = tmp_path / f"step-{step}"
        shutil.copytree(store.root, folder)  # times of files, too
        was_reached = died(folder, step, collected, how=how)
        after = Store.open(str(folder))
        assert set(verify(after, is_quick=False, tell=quiet).counts) <= {Kind.ORPHAN}, step

        # A quarter of an hour later, when who died holds the batch no more.
        collect(after, found_by_gc(after), clock=lambda: NOW_S + 1000, tell=quiet)

        assert verify(after, is_quick=False, tell=quiet).problems == 0, step
        assert [key for key in orphans if after.blobs.size(key) is not None] == [], step
        claim = newest_claim(after.blobs, BATCH.batch)
        assert claim is not None
        assert claim.ended is not None
        assert claim.ended["exit_code"] == 0
        shutil.rmtree(folder)
        if not was_reached:
            break
    assert 8 < step < STEPS_MAX - every, "fewer steps than a collection has, or no end"


def test_files_of_a_job_that_was_rendered_twice_are_nobodys_once_it_is_compacted(
    store: Store,
) -> None:
    again = replace(done(1, finished_s=1.9e9).outputs[0], uri=f"{HERE}/again.png")
    store.blobs.put(again.uri, picture(1))
    twice = replace(done(1, finished_s=1.9e9), outputs=(again,))
    key = shard_key(replace(BATCH, epoch=2), 0)
    table = rows_table([twice], replace(BATCH, epoch=2), key)
    create_or_same(store.blobs, key, parquet_bytes(table))
    assert verify(store, is_quick=False, tell=quiet).problems == 0

    compact(store, now_s=NOW_S, tell=lambda _read, _total: None)

    assert kinds(verify(store, is_quick=False, tell=quiet)) == {Kind.ORPHAN: 1}


def test_stats_count_what_is_there_and_how_it_lies(store: Store) -> None:
    before = stats(store)
    compact(store, now_s=0.0, tell=lambda _read, _total: None)
    after = stats(store)

    assert (before.jobs, before.jobs_done, before.jobs_failed, before.batches) == (4, 3, 1, 1)
    assert (before.images, before.images_bytes) == (3, sum(len(picture(n)) for n in (1, 3, 4)))
    assert (before.shards, before.compact_files, before.replaced_files) == (2, 0, 0)
    assert (after.jobs, after.images) == (before.jobs, before.images)
    assert (after.shards, after.compact_files, after.replaced_files) == (0, 1, 2)
    assert (after.compact_rows, after.manifest) == (4, 1)


def test_the_parts_of_a_store_are_together_all_of_it(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"), create=True)
    commit(store, [done(number) for number in range(12)])
    ended(store)

    read = [verify(store, is_quick=False, tell=quiet, part=Part(n, 3)).checked for n in range(3)]

    assert sum(read) == 12
    assert max(read) < 12
