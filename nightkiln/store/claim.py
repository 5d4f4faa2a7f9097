"""Holding a batch: acquire it, keep it alive, learn that it is lost, give it back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from nightkiln.core.errors import ClaimHeld, ClaimLost, StoreUnusable
from nightkiln.ports.blobs import Blobs
from nightkiln.store.claims import (
    HEARTBEAT_S,
    STALE_S,
    Free,
    Held,
    SeenClaim,
    StopRequest,
    TakeOver,
    claim_json,
    claim_key,
    newest_claim,
    read_stop,
    who_may,
    write_ended,
    write_heartbeat,
)
from nightkiln.store.processes import Process, is_dead, this_process

ACQUIRE_TRIES_MAX = 10  # somebody else was faster that often: leave it to them


class Claim:
    """A batch that is ours while the context lasts.

    ``clock`` gives epoch seconds. ``async with Claim(...) as claim`` raises ``ClaimHeld`` when
    another run has the batch. Inside, ``lost()`` returns an error when the batch is lost; race
    it against the work. ``end`` records how the run went, after everything is committed;
    without it the context's end says that the run was cut short.
    """

    def __init__(
        self,
        blobs: Blobs,
        batch: str,
        *,
        clock: Callable[[], float],
        heartbeat_s: float = HEARTBEAT_S,
        stale_s: float = STALE_S,
    ) -> None:
        self.batch = batch
        self.epoch = 0  # known inside the context
        self.took_over_from: Process | None = None
        self._blobs = blobs
        self._clock = clock
        self._heartbeat_s = heartbeat_s
        self._stale_s = stale_s
        self._outcome: Mapping[str, Any] = {"exit_code": None}
        self._heart: asyncio.Task[None] | None = None
        self._lost: asyncio.Future[ClaimLost] | None = None

    async def __aenter__(self) -> Self:
        granted = await asyncio.to_thread(
            acquire, self._blobs, self.batch, now_s=self._clock(), stale_s=self._stale_s
        )
        self.epoch = granted.epoch
        self.took_over_from = granted.dead.owner if isinstance(granted, TakeOver) else None
        self._lost = asyncio.get_running_loop().create_future()
        self._heart = asyncio.create_task(self._beat(), name=f"heartbeat of {self.batch}")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._heart is not None, "left before it was entered"
        self._heart.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._heart
        outcome = {**self._outcome, "ended_s": self._clock()}
        write = asyncio.to_thread(write_ended, self._blobs, self.batch, self.epoch, outcome)
        try:
            # Written even when the run is being cancelled: else the next one waits for nothing.
            await asyncio.shield(asyncio.ensure_future(write))
        except StoreUnusable:
            if error is None:
                raise  # else the store's trouble is already on its way up

    def end(self, outcome: Mapping[str, Any]) -> None:
        """How the run went (``exit_code``, counts), to be written when the context ends."""
        self._outcome = outcome

    async def lost(self) -> ClaimLost:
        """Wait until the batch is lost, which mostly is never."""
        assert self._lost is not None, "asked before it was entered"
        return await asyncio.shield(self._lost)

    async def still_mine(self) -> None:
        """Look into the store; nothing may be committed by a run that has lost its batch.

        Raises:
            ClaimLost: another run has taken the batch over.
        """
        assert self._lost is not None, "asked before it was entered"
        if self._lost.done():
            raise self._lost.result()
        await asyncio.to_thread(self._check)

    async def stop_requested(self) -> StopRequest | None:
        """Whether somebody asked this run to stop, and how soon.

        A store that cannot be read for a moment ends no run here: the heartbeat gives it time.
        """
        with contextlib.suppress(StoreUnusable):
            return await asyncio.to_thread(read_stop, self._blobs, self.batch, self.epoch)
        return None

    async def _beat(self) -> None:
        assert self._lost is not None, "started by __aenter__"
        alive_s = self._clock()
        while True:
            await asyncio.sleep(self._heartbeat_s)
            now_s = self._clock()
            try:
                await asyncio.to_thread(self._check)
                await asyncio.to_thread(
                    write_heartbeat, self._blobs, self.batch, self.epoch, alive_s=now_s
                )
                alive_s = now_s
            except ClaimLost as error:
                self._lost.set_result(error)
                return
            except StoreUnusable as error:
                # One failed heartbeat is no reason to stop; from ``stale_s`` on others may
                # believe us dead, and then two would work.
                if now_s - alive_s > self._stale_s:
                    self._lost.set_result(ClaimLost(f"no heartbeat could be written: {error}"))
                    return

    def _check(self) -> None:
        """Epochs have no gaps, so looking for the next one is enough."""
        successor = claim_key(self.batch, self.epoch + 1)
        if self._blobs.size(successor) is not None:
            raise ClaimLost(
                f"another run has taken batch {self.batch!r} over (epoch {self.epoch + 1}); "
                "this one stops; what it committed stays"
            )


def acquire(blobs: Blobs, batch: str, *, now_s: float, stale_s: float = STALE_S) -> Free | TakeOver:
    """Take the batch, if it may be taken; of several who try at once one gets it.

    Raises:
        ClaimHeld: somebody works on it; the message says who and what to do.
    """
    mine = claim_json(this_process(), now_s)
    for _ in range(ACQUIRE_TRIES_MAX):
        verdict = verdict_on(newest_claim(blobs, batch), now_s=now_s, stale_s=stale_s)
        if isinstance(verdict, Held):
            raise _held(verdict, batch, now_s)
        if blobs.create(claim_key(batch, verdict.epoch), mine):
            return verdict
    raise StoreUnusable(f"batch {batch!r}: {ACQUIRE_TRIES_MAX} others were faster; try again")


def verdict_on(
    newest: SeenClaim | None, *, now_s: float, stale_s: float = STALE_S
) -> Free | TakeOver | Held:
    """What the newest claim of a batch means; on its own computer a dead owner is known at once."""
    is_proven_dead = newest is not None and is_dead(newest.owner)
    return who_may(newest, now_s=now_s, stale_s=stale_s, is_proven_dead=is_proven_dead)


def _held(verdict: Held, batch: str, now_s: float) -> ClaimHeld:
    seen = verdict.by
    return ClaimHeld(
        f"batch {batch!r} is being worked on by {seen.describe(now_s)}; wait for it, stop it with "
        f"'nightkiln stop {batch}', or give this run another name with --name",
        batch=batch,
        owner=f"{seen.owner.host}:{seen.owner.pid}",
        since_s=seen.started_s,
    )
