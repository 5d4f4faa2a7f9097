"""Fifty machines at work, and somebody presses Cancel."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import pytest

from nightkiln.core.learning import Scores
from nightkiln.core.model import LeaseEnd, LeaseId
from nightkiln.core.scheduler import Scheduler
from nightkiln.core.terms import Fallback, Terms
from nightkiln.dispatch import Dispatcher, Tally
from nightkiln.rehearse.weightless import Sink
from nightkiln.stop_switch import StopSwitch
from nightkiln.testing import virtual_time
from nightkiln.testing.market import Night, shipped_market
from nightkiln.testing.market.machines import Boot
from nightkiln.testing.market.providers import SimulatedMarket
from nightkiln.testing.market.samples import HOUR_S, calm, starting_with
from tests.e2e.weightless import weightless_work

FLEET, JOBS = 50, 100_000
ANSWER_S, ORDERS_MAX = 8.0, 5  # until none of the machines of an order is listed any more
AT_WORK_S = HOUR_S / 4  # then most are up, and some are still starting
# As tasks.batch has it for "finish" and "hand back"; a supervisor kills after half a minute.
PATIENCE_S = (12.0, 0.0)
KILL_S, RELEASED_S_MAX = 30.0, 60.0


class SlowToRelease(SimulatedMarket):
    """Answers one order at a time, and only when it has seen that the machines are gone."""

    def __init__(self, night: Night) -> None:
        super().__init__(night)
        self.orders, self._counter = 0, asyncio.Lock()

    async def release(self, lease_ids: Sequence[LeaseId]) -> None:
        self.orders += 1
        async with self._counter:
            await asyncio.sleep(ANSWER_S)
            await super().release(lease_ids)


@dataclass
class Cancelled:
    """How the night went."""

    stopped_s: float = 0.0
    at_work: int = 0  # when it was told to end
    over_s: float = 0.0
    orders: int = 0  # to release something, since then
    ends: list[LeaseEnd] = field(default_factory=list)
    done_before: int = 0
    done: int = 0
    still_billed: int = 0


async def cancelled(patience_s: float) -> Cancelled:
    """A night of fifty machines that hears one signal."""
    loop = asyncio.get_running_loop()
    found, sink, switch = Cancelled(), Sink(loop.time), StopSwitch()
    night = Night(
        starting_with(calm(shipped_market("ordinary")), Boot.OK), seed=1, horizon_s=8 * HOUR_S
    )

    async with SlowToRelease(night) as provider:
        work = weightless_work(
            provider,
            JOBS,
            sink=sink,
            ends=found.ends,
            release_s_max=180.0,
            tick_s=5.0,
        )
        terms = Terms(
            "night-1",
            FLEET,
            jobs=JOBS,
            deadline_s=HOUR_S,
            budget=Decimal(500),
            fallback=Fallback.NEVER,
        )
        scheduler = Scheduler(terms, scores=Scores(workflow_jobs=1000))
        dispatcher = Dispatcher(work, scheduler, Tally("night", JOBS))
        switch.connect(lambda reason, is_now: dispatcher.stop(reason, is_now=is_now))
        running = asyncio.create_task(dispatcher.run())
        await asyncio.sleep(AT_WORK_S)
        found.stopped_s, found.done_before = loop.time(), sink.done
        found.at_work, before = len(await provider.owned()), provider.orders
        switch.ask("stopped by SIGTERM")
        loop.call_later(patience_s, lambda: switch.ask("stopped by SIGTERM", is_now=True))
        await running
        found.over_s, found.orders = loop.time(), provider.orders - before
        found.done, found.still_billed = sink.done, len(await provider.owned())
    return found


@pytest.mark.parametrize("patience_s", PATIENCE_S, ids=["finish", "hand back"])
def test_fifty_machines_are_given_back_before_a_supervisor_would_kill(patience_s: float) -> None:
    found = virtual_time.run(cancelled(patience_s))

    took_s = [
        end.released_s - found.stopped_s
        for end in found.ends
        if end.released_s is not None and end.released_s >= found.stopped_s
    ]
    assert found.at_work == len(took_s) == FLEET
    assert found.still_billed == 0
    assert max(took_s) <= KILL_S < RELEASED_S_MAX
    assert found.over_s - found.stopped_s <= KILL_S
    assert found.orders <= ORDERS_MAX, "together, not one by one"
    assert (found.done > found.done_before) == (patience_s > 0), "what was in flight"
