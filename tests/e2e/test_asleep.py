"""A computer that sleeps pays on: what it slept through counts, and is asked about."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from nightkiln.core.learning import Scores
from nightkiln.core.model import LeaseEnd, LeaseId
from nightkiln.core.scheduler import Scheduler
from nightkiln.core.terms import Terms
from nightkiln.dispatch import Dispatcher, Tally
from nightkiln.dispatch.sleeping import asleep_s
from nightkiln.rehearse.weightless import Sink
from nightkiln.testing import virtual_time
from nightkiln.testing.market import Night, shipped_market
from nightkiln.testing.market.providers import SimulatedMarket
from nightkiln.testing.market.samples import HOUR_S, calm
from tests.e2e.test_given_up import JOBS
from tests.e2e.weightless import weightless_work

NIGHT = Night(calm(shipped_market("ordinary")), seed=1, horizon_s=8 * HOUR_S)


class Account(SimulatedMarket):
    """Counts how often it is asked what is ours."""

    asked = 0

    async def owned(self) -> Sequence[LeaseId]:
        self.asked += 1
        return await super().owned()


async def played(nap_s: float) -> int:
    """A night whose computer sleeps so long; how often it was asked what is ours."""
    slept_s, ends = [0.0], list[LeaseEnd]()

    async with Account(NIGHT) as provider:
        clock = asyncio.get_running_loop().time
        sink = Sink(clock)
        work = weightless_work(
            provider,
            JOBS,
            sink=sink,
            ends=ends,
            asleep_s=lambda: slept_s[0],
        )
        terms = Terms("night-1", 2, jobs=JOBS, deadline_s=6 * HOUR_S)
        scheduler = Scheduler(terms, scores=Scores(workflow_jobs=1000))
        running = asyncio.create_task(Dispatcher(work, scheduler, Tally("night", JOBS)).run())
        await asyncio.sleep(600.0)
        slept_s[0] = nap_s
        await running
    assert sink.done == JOBS
    assert ends
    return provider.asked


def test_after_a_sleep_it_is_asked_what_is_still_ours() -> None:
    awake, napped = virtual_time.run(played(0.5)), virtual_time.run(played(HOUR_S))

    assert (awake, napped) == (1, 2)


def test_this_computer_says_how_long_it_slept() -> None:
    assert asleep_s() > -0.01
