"""What a night's money was spent on, told from what the scheduler heard and ordered.

A machine renders the first of the jobs that it was given; the others wait behind it. So the time
between two ends on a machine belongs to the job that ended second, well or not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from nightkiln.core.events import Command, Event, Failed, Lost, Released, Rendered, Submit
from nightkiln.core.model import AttemptId, LeaseEnd, LeaseId
from nightkiln.core.pricing import Parts
from nightkiln.core.scheduler import Scheduler
from nightkiln.core.state import Trying
from nightkiln.testing.market.billing import Bill

S_PER_HOUR = 3600.0
HEDGE = "hedge"  # kind of a failure: another machine was faster


@dataclass(slots=True)
class Uses:
    """Seconds that one machine spent on jobs."""

    rendering_s: float = 0.0  # of the result that counted
    failed_s: float = 0.0  # no result
    hedged_s: float = 0.0  # a result that was not needed any more


@dataclass(frozen=True, slots=True)
class NightParts(Parts):
    """USD by what they were for; they add up to the bill."""

    rendering: float = 0.0
    traffic_out: float = 0.0
    startup: float = 0.0  # of machines that came up
    traffic_in: float = 0.0  # of machines that came up
    failed_starts: float = 0.0  # everything, of machines that did not
    failed_tries: float = 0.0
    hedges: float = 0.0
    idle: float = 0.0

    @property
    def waste_usd(self) -> float:
        """All that bought no result."""
        return self.usd - self.rendering - self.traffic_out


@dataclass(slots=True)
class Meter:
    """Keeps the time of every machine."""

    clock: Callable[[], float]
    events: int = 0
    leases_most: int = 0  # at once
    by_lease: dict[LeaseId, Uses] = field(default_factory=dict)
    _running: dict[LeaseId, dict[AttemptId, float]] = field(default_factory=dict)
    _ended_s: dict[LeaseId, float] = field(default_factory=dict)

    def heard(self, event: Event, trying: Trying | None) -> None:
        """Before the scheduler hears it; ``trying`` is the attempt that the event is about."""
        self.events += 1
        match event:
            case Rendered(attempt_id) if trying is not None:
                self._ended(trying, attempt_id, is_good=not trying.is_moot)
            case Failed(attempt_id, _, kind) if trying is not None:
                is_hedge = trying.is_moot or kind == HEDGE
                self._ended(trying, attempt_id, is_good=False, is_hedge=is_hedge)
            case Lost(lease_id) | Released(lease_id):
                for since_s in list(self._running.pop(lease_id, {}).values())[:1]:
                    self._uses(lease_id).failed_s += self._busy_s(lease_id, since_s)

    def ordered(self, command: Command) -> None:
        """After the scheduler has decided."""
        if isinstance(command, Submit):
            running = self._running.setdefault(command.lease_id, {})
            running[command.attempt_id] = self.clock()

    def _ended(
        self, trying: Trying, attempt_id: AttemptId, *, is_good: bool, is_hedge: bool = False
    ) -> None:
        lease_id = trying.lease_id
        running = self._running.get(lease_id, {})
        is_first = next(iter(running), None) == attempt_id
        since_s = running.pop(attempt_id, None)
        if since_s is None or not is_first:
            return
        busy_s, uses = self._busy_s(lease_id, since_s), self._uses(lease_id)
        self._ended_s[lease_id] = self.clock()
        if is_good:
            uses.rendering_s += busy_s
        elif is_hedge:
            uses.hedged_s += busy_s
        else:
            uses.failed_s += busy_s

    def _busy_s(self, lease_id: LeaseId, since_s: float) -> float:
        return self.clock() - max(since_s, self._ended_s.get(lease_id, 0.0))

    def _uses(self, lease_id: LeaseId) -> Uses:
        return self.by_lease.setdefault(lease_id, Uses())


class MeteredScheduler(Scheduler):
    """The scheduler as it is, with somebody who looks on."""

    meter: Meter

    def handle(self, event: Event) -> list[Command]:
        state = self.state
        trying = (
            state.trying.get(event.attempt_id) if isinstance(event, Rendered | Failed) else None
        )
        self.meter.heard(event, trying)
        commands = super().handle(event)
        for command in commands:
            self.meter.ordered(command)
        self.meter.leases_most = max(self.meter.leases_most, len(state.leases))
        return commands


def parts_of(bill: Bill, end: LeaseEnd, uses: Uses, *, until_s: float) -> NightParts:
    """One lease's bill by what it was for; the GPU is billed until ``until_s``.

    Times of ``end`` are those of the bill: seconds since the night began.
    """
    if end.ready_s is None:
        return NightParts(failed_starts=float(bill.usd))
    offer = end.lease.offer
    up_s = max(0.0, until_s - end.ready_s)
    gpu_per_s = float(offer.usd_per_hour) / S_PER_HOUR
    disk_per_s = float(offer.storage_usd_per_hour) / S_PER_HOUR
    starting_s = max(0.0, bill.gpu_s - up_s - offer.idle_tail_s)
    startup = starting_s * gpu_per_s + (end.ready_s - bill.rented_s) * disk_per_s
    rest = float(bill.usd - bill.in_usd - bill.out_usd) - startup
    rendering_s = min(uses.rendering_s, up_s)
    hedged_s = min(uses.hedged_s, up_s - rendering_s)
    failed_s = min(uses.failed_s, up_s - rendering_s - hedged_s)
    per_s = gpu_per_s + disk_per_s
    return NightParts(
        rendering=rendering_s * per_s,
        traffic_out=float(bill.out_usd),
        startup=startup,
        traffic_in=float(bill.in_usd),
        failed_tries=failed_s * per_s,
        hedges=hedged_s * per_s,
        idle=rest - (rendering_s + hedged_s + failed_s) * per_s,
    )
