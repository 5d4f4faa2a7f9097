"""Hears, while a run works or waits, that somebody wants it to stop or has taken its batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from nightkiln.core.errors import most_telling
from nightkiln.stop_switch import StopSwitch
from nightkiln.store.claim import Claim

STOP_POLL_S = 1.0  # how often the store is asked whether somebody wants the run to stop
ASKED = "stopped by 'nightkiln stop'"

T = TypeVar("T")


async def heed_stop(claim: Claim, stop: Callable[[str, bool], None]) -> None:
    """Hear what ``nightkiln stop`` left in the store, for ever."""
    heard = None
    while True:
        asked = await claim.stop_requested()
        if asked is not None and asked != heard:
            heard = asked
            stop(ASKED, asked.now)
        await asyncio.sleep(STOP_POLL_S)


async def heeding(
    work: Coroutine[Any, Any, None],
    *beside: Coroutine[Any, Any, None],
    claim: Claim,
    stop: Callable[[str, bool], None],
) -> None:
    """Work to its end, hearing meanwhile; what goes on ``beside`` it ends with it.

    Raises:
        ClaimLost: another run has taken the batch.
    """
    try:
        async with asyncio.TaskGroup() as group:
            watchers = (
                group.create_task(heed_stop(claim, stop), name="heed stop"),
                group.create_task(_heed_loss(claim), name="heed loss of the claim"),
                *(group.create_task(one) for one in beside),
            )
            await work
            for watcher in watchers:
                watcher.cancel()
    except BaseExceptionGroup as errors:
        raise most_telling(errors) from errors


async def _heed_loss(claim: Claim) -> None:
    raise await claim.lost()


async def unless_stopped(
    work: Coroutine[Any, Any, T], *, claim: Claim, switch: StopSwitch
) -> T | None:
    """What ``work`` comes to; None if the run is told to stop before, which ``switch`` then knows.

    Raises:
        ClaimLost: another run has taken the batch meanwhile.
    """
    told = asyncio.Event()
    switch.connect(lambda *_: told.set())

    def stop(reason: str, is_now: bool) -> None:  # noqa: FBT001 - as the dispatcher is told
        switch.ask(reason, is_now=is_now)

    working = asyncio.create_task(work, name="at the gate")
    stopping = asyncio.create_task(told.wait(), name="told to stop at the gate")
    losing = asyncio.create_task(claim.lost(), name="loss of the claim at the gate")
    heeding = asyncio.create_task(heed_stop(claim, stop), name="heed stop at the gate")
    tasks = (working, stopping, losing, heeding)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if losing.done():
            raise losing.result()
        if heeding.done():
            heeding.result()  # it never ends but by an error
        return await working if working.done() else None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
