"""A clock that jumps: it decides who works and when files go, never what a batch has made."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from nightkiln.core.errors import ClaimLost
from nightkiln.core.model import Settled
from nightkiln.store.claim import Claim
from nightkiln.store.commit import Committer, create_or_same, shard_key
from nightkiln.store.compacting import compact
from nightkiln.store.rows import parquet_bytes, rows_table
from nightkiln.store.store import Store
from nightkiln.testing.s3_server import BUCKET
from nightkiln.testing.settled import BATCH, done, failed, job
from tests.adapters.places import BOTH

NOW_S, DAY_S = 1_770_000_000.0, 24 * 3600.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"), create=True)


@pytest.fixture(params=BOTH)
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """In a folder, or in a bucket."""
    if request.param == "folder":
        return Store.open(str(tmp_path / "store"), create=True)
    uri, access = f"s3://{BUCKET}/{uuid.uuid4().hex}", request.getfixturevalue("s3").access
    return Store.open(uri, create=True, s3=access, state=tmp_path)


def commit(store: Store, settled: Settled, *, epoch: int) -> None:
    batch = replace(BATCH, epoch=epoch)
    key = shard_key(batch, 0)
    create_or_same(store.blobs, key, parquet_bytes(rows_table([settled], batch, key)))


def statuses(store: Store) -> dict[str, str]:
    with store.connect("jobs") as con:
        found = con.execute("select job_id, status from jobs").fetchall()
    assert len(found) == len(dict(found)), "a job is there twice"
    return dict(found)


async def test_whose_clock_is_ahead_takes_a_batch_over_and_the_other_commits_nothing_more(
    either: Store,
) -> None:
    store = either
    async with Claim(store.blobs, BATCH.batch, clock=lambda: NOW_S) as behind:
        batch = replace(BATCH, epoch=behind.epoch)
        commits = Committer(store.blobs, batch, still_mine=behind.still_mine)
        await commits.add(done(1))
        await commits.flush()
        async with Claim(store.blobs, BATCH.batch, clock=lambda: NOW_S + DAY_S) as ahead:
            await commits.add(done(2))
            with pytest.raises(ClaimLost):
                await commits.flush()
            commit(store, done(2, finished_s=NOW_S + DAY_S), epoch=ahead.epoch)

    assert statuses(store) == {job(1).id: "done", job(2).id: "done"}


@pytest.mark.parametrize("jump_s", [-DAY_S, DAY_S], ids=["back", "ahead"])
def test_a_result_counts_over_a_failure_whenever_the_clock_says_that_was(
    store: Store, jump_s: float
) -> None:
    commit(store, done(1, finished_s=NOW_S), epoch=1)
    commit(store, failed(1, finished_s=NOW_S + jump_s), epoch=2)
    commit(store, done(1, finished_s=NOW_S + 2 * jump_s), epoch=3)

    assert statuses(store) == {job(1).id: "done"}


def test_the_age_of_files_goes_by_the_clock_of_the_place(store: Store) -> None:
    before_s = store.now_s()
    store.blobs.put("views.sql", b"")

    [written] = store.blobs.entries("views.sql")

    assert before_s <= written.modified_s <= store.now_s()


def test_by_a_clock_that_was_set_back_no_day_of_grace_is_over(store: Store) -> None:
    commit(store, done(1), epoch=1)
    for _ in range(2):
        compacted = compact(store, now_s=0.0, grace_s=DAY_S, tell=lambda _read, _total: None)
        assert compacted.removed == 0

    assert store.blobs.size(shard_key(BATCH, 0)) is not None
    assert statuses(store) == {job(1).id: "done"}
