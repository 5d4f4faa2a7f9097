"""A machine whose release nobody confirmed, in a run that goes on: it is not forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest

from nightkiln.core.errors import ProviderError, WorkerLost
from nightkiln.core.learning import Scores
from nightkiln.core.model import (
    Lease,
    LeaseEnd,
    LeaseId,
    Loss,
)
from nightkiln.core.scheduler import Scheduler
from nightkiln.core.terms import Terms
from nightkiln.dispatch import Dispatcher, Tally
from nightkiln.dispatch.loop import LIST_AGAIN_S
from nightkiln.rehearse.weightless import Sink
from nightkiln.testing import virtual_time
from nightkiln.testing.market import Night, shipped_market
from nightkiln.testing.market.machines import Boot
from nightkiln.testing.market.providers import ServiceFaults, SimulatedMarket, Stage
from nightkiln.testing.market.samples import HOUR_S, calm, starting_with
from nightkiln.testing.market.worker import SimulatedWorker
from tests.e2e.weightless import weightless_work

JOBS = 150
FIRST = LeaseId("night-1-lease-000")
TOO_OFTEN = ServiceFaults(release_failures=3)  # for somebody who tries for a fifth of a second


class FalseStart(SimulatedMarket):
    """Its first machine does not come up."""

    @asynccontextmanager
    async def connect(self, lease: Lease) -> AsyncIterator[SimulatedWorker]:
        if lease.id == FIRST:
            raise WorkerLost("the image could not be pulled", loss=Loss.STARTUP)
        async with super().connect(lease) as worker:
            yield worker


class GoneByItself(FalseStart):
    """Its service ends that machine when nobody asks any more, and does not list it."""

    async def owned(self) -> Sequence[LeaseId]:
        return [lease_id for lease_id in await super().owned() if lease_id != FIRST]


class SilentForLong(FalseStart):
    """Its service does not answer who asks what is there, but for the first time and the last."""

    listings = 0

    async def owned(self) -> Sequence[LeaseId]:
        self.listings += 1
        if self.listings in {2, 3}:
            raise ProviderError("503", provider=self.name)
        return await super().owned()


async def play(
    ends: list[LeaseEnd], kind: type[FalseStart] = FalseStart
) -> tuple[FalseStart, Tally, Sink]:
    market = starting_with(calm(shipped_market("ordinary")), Boot.OK)
    clock = asyncio.get_running_loop().time

    sink, tally = Sink(clock), Tally("night", JOBS)
    night = Night(market, seed=1, horizon_s=8 * HOUR_S)
    async with kind(night, stage=Stage(faults=TOO_OFTEN)) as provider:
        work = weightless_work(
            provider,
            JOBS,
            sink=sink,
            ends=ends,
            release_s_max=0.2,
        )
        terms = Terms("night-1", 2, jobs=JOBS, deadline_s=HOUR_S, budget=Decimal(5))
        scheduler = Scheduler(terms, scores=Scores(workflow_jobs=1000))
        await Dispatcher(work, scheduler, tally).run()
    return provider, tally, sink


def test_a_release_that_nobody_confirmed_is_tried_again_while_the_run_goes_on() -> None:
    ends: list[LeaseEnd] = []

    provider, tally, sink = virtual_time.run(play(ends))

    given_up, given_back = (end for end in ends if end.lease.id == FIRST)
    assert sink.done == JOBS
    assert given_up.released_s is None
    assert given_back.released_s is not None
    assert given_back.is_late
    assert LIST_AGAIN_S <= given_back.released_s - given_back.rented_s <= 2 * LIST_AGAIN_S
    assert provider.rentals[FIRST].released_s == given_back.released_s
    assert FIRST not in tally.not_released


@pytest.mark.parametrize(
    ("kind", "after_s"), [(GoneByItself, LIST_AGAIN_S), (SilentForLong, 3 * LIST_AGAIN_S)]
)
def test_it_is_tried_again_however_its_service_lists_it(
    kind: type[FalseStart], after_s: float
) -> None:
    ends: list[LeaseEnd] = []

    provider, tally, _ = virtual_time.run(play(ends, kind))

    given_up, given_back = (end for end in ends if end.lease.id == FIRST)
    assert given_up.released_s is None
    assert given_back.released_s is not None
    assert given_back.released_s - given_back.rented_s >= after_s
    assert provider.rentals[FIRST].released_s == given_back.released_s
    assert FIRST not in tally.not_released
