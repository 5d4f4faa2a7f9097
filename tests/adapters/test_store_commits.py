"""A shard is in the store whole, once, in its turn, and only while the batch is ours."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightkiln.blobs import LocalBlobs
from nightkiln.blobs.s3 import S3Blobs
from nightkiln.blobs.s3_place import S3Place
from nightkiln.core.errors import ClaimLost, StoreConflict, StoreUnusable
from nightkiln.core.model import BatchId
from nightkiln.ports.blobs import Blobs
from nightkiln.store.commit import Committer, create_or_same, shard_key
from nightkiln.testing.s3_server import BUCKET
from nightkiln.testing.settled import BATCH, done
from nightkiln.testing.waiting import until
from tests.adapters.places import BOTH


async def mine() -> None:
    """Nobody has taken the batch over."""


class Recording:
    """Remembers the order of creates; the first ``lost_answers`` succeed and say they failed."""

    def __init__(self, *place: Any, lost_answers: int = 0) -> None:
        super().__init__(*place)
        self.created: list[str] = []
        self.lost_answers = lost_answers

    def create(self, key: str, data: bytes) -> bool:
        is_new: bool = super().create(key, data)  # type: ignore[misc]
        self.created.append(key)
        if self.lost_answers:
            self.lost_answers -= 1
            raise StoreUnusable("the answer was lost")
        return is_new


class Recorded(Recording, LocalBlobs):
    """In a folder."""


class RecordedInBucket(Recording, S3Blobs):
    """In a bucket."""


@pytest.fixture(params=BOTH)
def recorded(request: pytest.FixtureRequest, tmp_path: Path) -> Recorded | RecordedInBucket:
    if request.param == "folder":
        return Recorded(tmp_path)
    access = request.getfixturevalue("s3").access
    return RecordedInBucket(S3Place(BUCKET, uuid.uuid4().hex), access)


def committer(
    blobs: Blobs,
    *,
    batch: BatchId = BATCH,
    still_mine: Callable[[], Awaitable[None]] = mine,
    age_s_max: float = 3600,
) -> Committer:
    return Committer(blobs, batch, still_mine=still_mine, rows_max=4, age_s_max=age_s_max)


def rows_of(blobs: Blobs, key: str) -> list[str]:
    table = pq.read_table(pa.BufferReader(blobs.get(key)), columns=["prompt"])
    rows: list[str] = table["prompt"].to_pylist()
    return [prompt.rpartition(" ")[2] for prompt in rows]


async def test_shards_are_committed_in_the_order_of_settling(
    recorded: Recorded | RecordedInBucket,
) -> None:
    blobs = recorded

    async with committer(blobs) as commits:
        for number in range(10):
            await commits.add(done(number))

    assert blobs.created == [shard_key(BATCH, number) for number in range(3)]
    committed = [row for key in blobs.created for row in rows_of(blobs, key)]
    assert committed == [str(number) for number in range(10)]
    assert commits.rows_committed == 10


async def test_a_shard_that_is_not_full_is_committed_when_it_is_old(tmp_path: Path) -> None:
    blobs = Recorded(tmp_path)
    commits = committer(blobs, age_s_max=0)

    await commits.add(done(1))
    await until(lambda: commits.rows_committed)

    assert rows_of(blobs, shard_key(BATCH, 0)) == ["1"]


async def test_adding_waits_while_the_disk_is_behind(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def blocked() -> None:
        await gate.wait()

    commits = committer(LocalBlobs(tmp_path), still_mine=blocked)
    added = 0

    async def add_many() -> None:
        nonlocal added
        for number in range(100):
            await commits.add(done(number))
            added += 1

    adding = asyncio.create_task(add_many())
    for _ in range(1000):
        await asyncio.sleep(0)
    added_while_blocked = added
    gate.set()
    await adding
    await commits.flush()

    assert added_while_blocked < 24
    assert commits.rows_committed == 100


async def test_nothing_is_committed_by_a_run_that_has_lost_its_batch(
    recorded: Recorded | RecordedInBucket,
) -> None:
    async def lost() -> None:
        raise ClaimLost("another run has taken over")

    blobs = recorded
    commits = committer(blobs, still_mine=lost)

    await commits.add(done(1))

    with pytest.raises(ClaimLost):
        await commits.flush()
    with pytest.raises(ClaimLost):
        await commits.add(done(2))
    assert blobs.created == []


async def test_after_a_failed_commit_none_of_the_later_ones_is_made(
    recorded: Recorded | RecordedInBucket,
) -> None:
    blobs = recorded
    blobs.put(shard_key(BATCH, 1), b"somebody else's")
    commits = committer(blobs)

    with pytest.raises(StoreConflict, match="other content"):  # noqa: PT012
        for number in range(12):
            await commits.add(done(number))
        await commits.flush()

    assert list(blobs.list("results/")) == [shard_key(BATCH, 0), shard_key(BATCH, 1)]
    assert blobs.get(shard_key(BATCH, 1)) == b"somebody else's"


async def test_a_commit_whose_answer_was_lost_is_not_made_twice(tmp_path: Path) -> None:
    blobs = Recorded(tmp_path, lost_answers=1)

    async with committer(blobs) as commits:
        await commits.add(done(1))

    assert rows_of(blobs, shard_key(BATCH, 0)) == ["1"]
    assert commits.rows_committed == 1


def test_a_store_that_fails_twice_is_unusable(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable):
        create_or_same(Recorded(tmp_path, lost_answers=2), "key", b"content")


async def test_another_epoch_commits_beside_and_never_over(
    recorded: Recorded | RecordedInBucket,
) -> None:
    blobs = recorded

    for epoch in (1, 2):
        async with committer(blobs, batch=replace(BATCH, epoch=epoch)) as commits:
            await commits.add(done(1))

    assert len(list(blobs.list("results/"))) == 2


async def test_what_was_added_is_committed_though_the_work_is_cancelled(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)

    async def work() -> None:
        async with committer(blobs) as commits:
            await commits.add(done(1))
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert rows_of(blobs, shard_key(BATCH, 0)) == ["1"]
