"""One night, played: the real scheduler and the real dispatch, in virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from nightkiln.core.model import (
    BoundJob,
    Kind,
    Lease,
    LeaseEnd,
    LeaseId,
    Need,
    Usd,
)
from nightkiln.core.scheduler import Scheduler
from nightkiln.dispatch import Dispatcher, Tally, Work
from nightkiln.ports.observer import Progress
from nightkiln.rehearse.script import PROVIDER, Script
from nightkiln.rehearse.uses import Meter, MeteredScheduler, NightParts, Uses, parts_of
from nightkiln.rehearse.weightless import Journal, Landing, Sink, Source
from nightkiln.testing.market import Night
from nightkiln.testing.market.baselines.by_hand import LATE_WITHIN_S
from nightkiln.testing.market.baselines.fallback_only import fewest_containers
from nightkiln.testing.market.billing import Bill
from nightkiln.testing.market.providers import SimulatedFallback, SimulatedMarket
from nightkiln.testing.virtual_time import run

TICK_S_MAX = 20.0  # of the played clock; a real run's ticks are a second
TICKS_MIN = 180  # until the deadline
RELEASE_S_MAX = 86400.0  # a real run that gives a machine up finds it again in the next listing


@dataclass(frozen=True, slots=True)
class Played:
    """How one night went. Jobs are jobs, not lumps."""

    seed: int
    finish_s: float  # the last job settled; where jobs are left, the last machine given back
    is_met: bool  # every job settled before the deadline
    jobs_done: float
    jobs_failed: float
    jobs_left: float
    usd_by_kind: Mapping[Kind, float]
    parts: NightParts
    billed_usd: Usd  # by the providers
    ledger_usd: Usd  # by our own count, which must never be lower
    finishing_usd: float  # what is left, on the fallback: unfinished nights must not look cheap
    leases: int  # ever rented, containers included
    leases_most: int  # at once
    leases_lost: int  # that came up and were taken away
    starts_failed: int
    not_released: int  # nobody confirmed that they are given back: still billed
    gb_in: float
    gb_out: float
    events: int  # that the scheduler handled
    stop_reason: str | None

    @property
    def usd(self) -> float:
        return float(self.billed_usd)


def play(script: Script, seed: int) -> Played:
    """The night of ``seed``; always the same one."""
    logging.getLogger("stamina").setLevel(logging.ERROR)  # its retries belong to the night
    return run(_played(script, script.night(seed)))


async def _played(script: Script, night: Night) -> Played:
    ends: list[LeaseEnd] = []
    clock = asyncio.get_running_loop().time
    meter = Meter(clock)
    scheduler = MeteredScheduler(script.terms, priors=script.priors, scores=script.scores(night))
    scheduler.meter = meter
    sink = Sink(clock)
    lump = script.lump
    market = SimulatedMarket(
        night,
        name=PROVIDER,
        lump=lump,
        kinds=script.kinds,
        usd_per_hour_max=script.usd_per_hour_max,
    )
    async with market, SimulatedFallback(night, lump=lump) as fallback:
        services = (market, fallback)
        work = Work(
            need=Need(),
            source=Source(script.lumps),
            bind=lambda job: BoundJob(job.id, {}),
            providers={service.name: service for service in services},
            landing=Landing(),
            journal=Journal(),
            journal_fields=lambda _: {},
            sink=sink,
            observer=_Observer(),
            lease_log=_appending(ends),
            load=script.load,
            clock=clock,
            tick_s=max(1.0, min(TICK_S_MAX, script.deadline_s / TICKS_MIN)),
            release_s_max=RELEASE_S_MAX,
        )
        await Dispatcher(work, scheduler, Tally("rehearsal", script.lumps)).run()
        bills = [bill for service in services for bill in service.all_bills()]
        dies_s = {
            lease_id: rental.terms.death_s
            for service in services
            for lease_id, rental in service.rentals.items()
        }
        books = _Books(bills, ends, dies_s, meter, sink, clock())
    return _told(script, night, scheduler, books)


@dataclass(frozen=True, slots=True)
class _Books:
    """All that is known after a night."""

    bills: Sequence[Bill]
    ends: Sequence[LeaseEnd]
    dies_s: Mapping[LeaseId, float]
    meter: Meter
    sink: Sink
    over_s: float  # when the run ended

    def parts(self) -> NightParts:
        ends, total = {end.lease.id: end for end in self.ends}, NightParts()
        for bill in self.bills:
            uses = self.meter.by_lease.get(bill.lease_id, Uses())
            until_s = min(self.released_s(bill), self.dies_s[bill.lease_id])
            total += parts_of(bill, ends[bill.lease_id], uses, until_s=until_s)
        return total

    def released_s(self, bill: Bill) -> float:
        """What could not be given back is still billed."""
        return bill.released_s if bill.released_s is not None else self.over_s

    def is_lost(self, end: LeaseEnd) -> bool:
        """Whether it came up and was taken away."""
        if end.ready_s is None:
            return False
        released_s = end.released_s if end.released_s is not None else self.over_s
        return self.dies_s[end.lease.id] < released_s


def _told(script: Script, night: Night, scheduler: Scheduler, books: _Books) -> Played:
    sink, state, bills = books.sink, scheduler.state, books.bills
    billed = {bill.lease_id for bill in bills}
    ends = [end for end in books.ends if end.lease.id in billed]
    left = (script.lumps - sink.done - sink.failed) * script.jobs_per_lump
    usd_by_kind = {
        kind: float(sum((bill.usd for bill in bills if bill.kind is kind), Decimal(0)))
        for kind in (Kind.ON_DEMAND, Kind.INTERRUPTIBLE, Kind.SERVERLESS)
    }
    rest = fewest_containers(night, left, within_s=LATE_WITHIN_S).usd(left) if left else 0.0
    return Played(
        seed=night.seed,
        finish_s=sink.last_s if left == 0 else max([sink.last_s, *map(books.released_s, bills)]),
        is_met=left == 0 and sink.last_s <= script.deadline_s,
        jobs_done=sink.done * script.jobs_per_lump,
        jobs_failed=sink.failed * script.jobs_per_lump,
        jobs_left=left,
        usd_by_kind=usd_by_kind,
        parts=books.parts(),
        billed_usd=sum((bill.usd for bill in bills), Decimal(0)),
        ledger_usd=state.ledger.spent,
        finishing_usd=rest,
        leases=len(bills),
        leases_most=books.meter.leases_most,
        leases_lost=sum(map(books.is_lost, ends)),
        starts_failed=sum(end.ready_s is None for end in ends),
        not_released=sum(bill.released_s is None for bill in bills),
        gb_in=sum(bill.gb_in for bill in bills),
        gb_out=sum(bill.gb_out for bill in bills),
        events=books.meter.events,
        stop_reason=scheduler.stop_reason,
    )


class _Observer:
    def lease(self, lease: Lease) -> AbstractAsyncContextManager[None]:
        del lease
        return nullcontext()

    async def event(self, name: str, fields: Mapping[str, Any]) -> None:
        del name, fields

    async def progress(self, progress: Progress) -> None:
        del progress


def _appending(ends: list[LeaseEnd]) -> Callable[[LeaseEnd], Any]:
    async def append(end: LeaseEnd) -> None:
        ends.append(end)

    return append
