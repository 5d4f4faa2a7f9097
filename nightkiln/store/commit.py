"""Settled jobs become rows of the store, a shard at a time, in the order in which they settled.

Creating a shard's file under a key that did not exist is the commit: before it none of the
shard's jobs is in the store, after it all are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Self

from nightkiln.core.errors import StoreConflict, StoreUnusable
from nightkiln.core.model import BatchId, Settled
from nightkiln.ports.blobs import Blobs
from nightkiln.store.rows import parquet_bytes, rows_table

SHARD_ROWS_MAX = 256
SHARD_AGE_S_MAX = 30.0  # of the first job in it; what a kill can cost to adopt
CHUNK = 256  # jobs taken from an iterator at once, off the event loop
SHARDS_WAITING_MAX = 4  # then ``add`` waits: the disk is slower than the fleet


def shard_key(batch: BatchId, number: int) -> str:
    """Where the ``number``-th shard of this run is committed; the epoch keeps runs apart."""
    return f"results/dt={batch.date}/{batch.batch}-{batch.epoch:06d}-{number:06d}.parquet"


def create_or_same(blobs: Blobs, key: str, data: bytes) -> None:
    """Create ``key``; that it is there already, with the same content, is as good.

    An attempt that failed may have succeeded all the same (the answer was lost), so it is made
    once more: that one either fails for good or tells what is there.

    Raises:
        StoreConflict: it is there with other content.
        StoreUnusable: twice.
    """
    try:
        is_new = blobs.create(key, data)
    except StoreUnusable:
        is_new = blobs.create(key, data)
    if not is_new and blobs.get(key) != data:
        raise StoreConflict(
            f"{key} is already committed with other content: two runs took the same epoch; "
            "nothing was overwritten, start the batch again"
        )


@dataclass(frozen=True, slots=True)
class _Shard:
    number: int
    settled: tuple[Settled, ...]


class Committer:
    """Collects settled jobs into shards and commits them one after the other.

    ``still_mine`` is awaited before each commit and raises when another run has taken over.
    After a failed commit every ``add`` and ``flush`` raises the same error: what was not
    committed is in the journal, and the next run adopts it.
    """

    def __init__(
        self,
        blobs: Blobs,
        batch: BatchId,
        *,
        still_mine: Callable[[], Awaitable[None]],
        rows_max: int = SHARD_ROWS_MAX,
        age_s_max: float = SHARD_AGE_S_MAX,
    ) -> None:
        self.rows_committed = 0
        self._blobs = blobs
        self._batch = batch
        self._still_mine = still_mine
        self._rows_max = rows_max
        self._age_s_max = age_s_max
        self._open: list[Settled] = []
        self._timer: asyncio.TimerHandle | None = None
        self._next_number = 0
        self._waiting: list[asyncio.Task[None]] = []  # not committed yet, oldest first
        self._in_turn = asyncio.Lock()  # hands out turns in the order in which they were asked for
        self._error: BaseException | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.flush()

    async def add(self, settled: Settled) -> None:
        """Take one job; waits while too many shards are on their way to the disk."""
        self._raise_error()
        self._open.append(settled)
        if len(self._open) >= self._rows_max:
            self._close_shard()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._age_s_max, self._close_shard)
        while len(self._waiting) > SHARDS_WAITING_MAX:
            await asyncio.wait(self._waiting[:1])
        self._raise_error()

    async def add_all(self, settled: Iterator[Settled]) -> int:
        """Take and commit what a blocking iterator yields; how many there were."""
        count = 0
        while chunk := await asyncio.to_thread(lambda: list(islice(settled, CHUNK))):
            for one in chunk:
                await self.add(one)
            count += len(chunk)
        await self.flush()
        return count

    async def flush(self) -> None:
        """Commit everything that was added; return when it is in the store."""
        self._close_shard()
        while self._waiting:
            await asyncio.wait(self._waiting)  # does not cancel them when the caller is cancelled
        self._raise_error()

    def _close_shard(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._open:
            return
        shard = _Shard(self._next_number, tuple(self._open))
        self._next_number += 1
        self._open = []
        task = asyncio.create_task(self._commit(shard), name=f"commit {shard.number}")
        self._waiting.append(task)
        task.add_done_callback(self._committed)

    async def _commit(self, shard: _Shard) -> None:
        async with self._in_turn:
            if self._error is not None:
                return  # commits keep their order: after a gap there is nothing more
            try:
                await self._still_mine()
                await asyncio.to_thread(self._write, shard)
            except BaseException as error:
                self._error = error
                raise
            self.rows_committed += len(shard.settled)

    def _write(self, shard: _Shard) -> None:
        key = shard_key(self._batch, shard.number)
        table = rows_table(shard.settled, self._batch, key)
        create_or_same(self._blobs, key, parquet_bytes(table))

    def _committed(self, task: asyncio.Task[None]) -> None:
        self._waiting.remove(task)
        if not task.cancelled():
            task.exception()  # seen: ``add`` and ``flush`` raise it

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error
