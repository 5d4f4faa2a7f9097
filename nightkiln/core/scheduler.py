"""Decides what to do next: events in, commands out; no I/O, no clock, no randomness.

How it works. An event only records what happened. ``_decide`` then derives every command
from the state, so no rule is written twice and any order of events is safe:

    jobs     waiting -> running -> done | given up; back to waiting when a try says nothing final
    leases   asked for -> ready -> releasing -> gone

This is the simple scheduler: it rents whatever is offered, up to a limit, keeps every machine
filled, sends a failed job to another machine, and stops asking machines that keep failing.
Price, deadline and budget enter behind the same events and commands.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import assert_never

from nightkiln.core.events import (
    AskOffers,
    Cancel,
    Command,
    Event,
    Failed,
    FetchJobs,
    GiveUp,
    Lost,
    Offered,
    Queued,
    Release,
    Released,
    Rendered,
    Rent,
    Rented,
    Started,
    Stop,
    StopRequested,
    Submit,
    Tick,
)
from nightkiln.core.faults import Tries, verdict
from nightkiln.core.model import AttemptId, Fault, JobId, Lease, LeaseId, Offer

QUEUE_LOW = 256  # fewer waiting jobs than this: fetch more, before a machine runs dry
FETCH_MAX = 1024  # jobs asked for at once; bounds what is held in memory
MACHINE_FAULTS_MAX = 3  # in a row on one lease, with no success between: the machine is bad
STRIKES_MAX = 3  # times an offer may disappoint before this run stops renting it
COOLDOWN_S = 5.0  # after the first strike; doubles with each
OFFERS_EVERY_S = 5.0  # while more machines are wanted than we have
PATIENCE_S = 120.0  # with work waiting and no machine ready for so long, stop and say so
FIRST_FAILURES_MAX = 10  # jobs given up before the first success: the fault is ours, stop
USELESS_KINDS = frozenset({"disk_full", "unfit"})  # the next job would fail there, too
RETRY_SCAN_MAX = 16  # waiting jobs looked at to find one that has not failed on this machine


class Phase(Enum):
    """Where a lease stands."""

    ASKED = "asked"
    READY = "ready"
    RELEASING = "releasing"


@dataclass(slots=True)
class _Held:
    """What we know of one lease."""

    offer: Offer
    phase: Phase = Phase.ASKED
    running: set[AttemptId] = field(default_factory=set)
    machine_faults: int = 0  # in a row
    is_bad: bool = False
    error: str = ""


@dataclass(slots=True)
class _Standing:
    """How an offer has served this run."""

    strikes: int = 0
    free_at_s: float = 0.0


class Scheduler:
    """The state of one run. Mutated by ``handle`` and by nothing else.

    ``run_label`` prefixes lease and attempt ids, which must be unique in the life of a store:
    ``<batch>-<epoch>``.
    """

    def __init__(self, *, run_label: str, leases_max: int) -> None:
        assert leases_max > 0
        self.done = 0
        self.failed = 0
        self.leases: dict[LeaseId, _Held] = {}
        self.stop_reason: str | None = None
        self._label, self._leases_max = run_label, leases_max
        self._waiting: deque[JobId] = deque()
        self._running: dict[AttemptId, tuple[LeaseId, JobId]] = {}
        self._tries: dict[JobId, Tries] = {}  # only jobs that have failed at least once
        self._standing: dict[tuple[str, str], _Standing] = {}
        self._last_strike = ""
        self._offers: tuple[Offer, ...] = ()
        self._is_fetching = self._is_asking = self._is_exhausted = self._cancels = False
        self._now_s = self._ready_at_s = 0.0
        self._asked_at_s = float("-inf")
        self._leases_count = self._attempts_count = 0

    @property
    def is_finished(self) -> bool:
        """Nothing runs, nothing is rented, and nothing is left that this run would do."""
        return not self._running and not self.leases and (self._is_stopping or not self._has_work)

    @property
    def waiting(self) -> int:
        """Jobs fetched and not handed out."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Attempts handed out and not settled."""
        return len(self._running)

    @property
    def _is_stopping(self) -> bool:
        return self.stop_reason is not None

    @property
    def _has_work(self) -> bool:
        return bool(self._waiting) or not self._is_exhausted

    def handle(self, event: Event) -> list[Command]:
        """Record ``event`` and say what to do now, in order."""
        commands = [*self._record(event), *self._decide()]
        self._check()
        return commands

    # Recording: what an event says, and nothing else.

    def _record(self, event: Event) -> Iterator[Command]:
        match event:
            case Started() | Tick() | Queued() | Offered() | StopRequested():
                self._note(event)
            case Rented(lease):
                yield from self._rented(lease)
            case Rendered(attempt_id):
                self._rendered(attempt_id)
            case Failed():
                yield from self._failed(event)
            case Lost(lease_id, error):
                yield from self._lost(lease_id, error)
            case Released(lease_id):
                yield from self._lost(lease_id, "the lease was released")
                self.leases.pop(lease_id, None)
            case _:
                assert_never(event)

    def _note(self, event: Started | Tick | Queued | Offered | StopRequested) -> None:
        match event:
            case Started(now_s):
                self._now_s = self._ready_at_s = now_s
            case Tick(now_s):
                self._now_s = max(self._now_s, now_s)
            case Queued(jobs, is_last):
                self._waiting.extend(jobs)
                self._is_fetching, self._is_exhausted = False, self._is_exhausted or is_last
            case Offered(offers):
                self._offers, self._is_asking = offers, False
            case StopRequested(is_now, reason):
                self.stop_reason = self.stop_reason if self._is_stopping else reason
                self._cancels = self._cancels or is_now

    def _rented(self, lease: Lease) -> Iterator[Command]:
        held = self.leases.get(lease.id)
        if held is None:
            yield Release(lease.id, "arrived after we lost interest")  # never keep paying
        elif held.phase is Phase.ASKED:
            held.phase, self._ready_at_s = Phase.READY, self._now_s

    def _rendered(self, attempt_id: AttemptId) -> None:
        settled = self._leave(attempt_id)
        if settled is None:
            return
        held, job_id = settled
        held.machine_faults = 0
        self._standing.pop(_key(held.offer), None)
        self._tries.pop(job_id, None)
        self.done += 1

    def _failed(self, event: Failed) -> Iterator[Command]:
        settled = self._leave(event.attempt_id)
        if settled is None:
            return
        held, job_id = settled
        if event.fault is Fault.MACHINE:
            held.machine_faults += 1
            if event.kind in USELESS_KINDS:
                held.is_bad, held.error = True, event.error
        yield from self._return(job_id, held.offer, event.fault, event.error)

    def _lost(self, lease_id: LeaseId, error: str) -> Iterator[Command]:
        held = self.leases.get(lease_id)
        if held is None:
            return
        for attempt_id in sorted(held.running):
            _, job_id = self._running.pop(attempt_id)
            yield from self._return(job_id, held.offer, None, error)
        held.running.clear()
        if held.phase is not Phase.RELEASING:
            held.is_bad, held.error = True, error

    def _leave(self, attempt_id: AttemptId) -> tuple[_Held, JobId] | None:
        """Take an attempt off its lease; None when it was already taken off."""
        running = self._running.pop(attempt_id, None)
        if running is None:
            return None
        lease_id, job_id = running
        held = self.leases[lease_id]
        held.running.discard(attempt_id)
        return held, job_id

    def _return(
        self, job_id: JobId, offer: Offer, fault: Fault | None, error: str
    ) -> Iterator[Command]:
        tries = self._tries.setdefault(job_id, Tries()).after(fault, where=offer.ref)
        final = verdict(tries, fault)
        if final is None:
            self._tries[job_id] = tries
            self._waiting.appendleft(job_id)  # soon, so that its fate is known early
        else:
            del self._tries[job_id]
            self.failed += 1
            yield GiveUp(job_id, final, error)

    # Deciding: commands from the state.

    def _decide(self) -> Iterator[Command]:
        if any(held.phase is Phase.READY for held in self.leases.values()):
            self._ready_at_s = self._now_s
        yield from self._stop_if_hopeless()
        yield from self._cancel_if_stopping()
        yield from self._fetch()
        yield from self._fill()
        yield from self._let_go()
        yield from self._ask()
        yield from self._rent()

    def _stop_if_hopeless(self) -> Iterator[Command]:
        if self._is_stopping or not self._has_work:
            return
        if self.done == 0 and self.failed >= FIRST_FAILURES_MAX:
            reason = (
                f"the first {self.failed} jobs all failed: the fault is in the catalog or its "
                "environment, not in a machine; see `attempts` in the store"
            )
        elif self._is_struck_out():
            reason = f"every worker failed too often; the last one: {self._last_strike}"
        elif self._now_s - self._ready_at_s > PATIENCE_S:
            reason = f"no worker was ready for {PATIENCE_S:.0f} s; is one running?"
        else:
            return
        self.stop_reason = reason
        yield Stop(reason)

    def _is_struck_out(self) -> bool:
        return (
            bool(self._offers)
            and not self.leases
            and all(self._strikes(offer) >= STRIKES_MAX for offer in self._offers)
        )

    def _strikes(self, offer: Offer) -> int:
        standing = self._standing.get(_key(offer))
        return standing.strikes if standing is not None else 0

    def _cancel_if_stopping(self) -> Iterator[Command]:
        if self._cancels:
            self._cancels = False
            for attempt_id, (lease_id, _) in sorted(self._running.items()):
                yield Cancel(lease_id, attempt_id)

    def _fetch(self) -> Iterator[Command]:
        wanted = len(self._waiting) < QUEUE_LOW and not self._is_exhausted
        if wanted and not self._is_fetching and not self._is_stopping:
            self._is_fetching = True
            yield FetchJobs(FETCH_MAX)

    def _fill(self) -> Iterator[Command]:
        if self._is_stopping:
            return
        for lease_id, held in self.leases.items():
            while held.phase is Phase.READY and not self._is_bad(held):
                if len(held.running) >= held.offer.slots:
                    break
                job_id = self._next_for(held.offer)
                if job_id is None:
                    break
                attempt_id = AttemptId(f"{self._label}-{self._attempts_count:07d}")
                self._attempts_count += 1
                held.running.add(attempt_id)
                self._running[attempt_id] = (lease_id, job_id)
                yield Submit(lease_id, job_id, attempt_id)

    def _next_for(self, offer: Offer) -> JobId | None:
        """Next job for this machine; one that failed here only if no other machine could."""
        for index, job_id in enumerate(self._waiting):
            if index >= RETRY_SCAN_MAX:
                break
            tries = self._tries.get(job_id)
            if tries is None or offer.ref not in tries.places or not self._has_other(tries):
                del self._waiting[index]
                return job_id
        return None

    def _has_other(self, tries: Tries) -> bool:
        return any(
            held.phase is Phase.READY
            and not self._is_bad(held)
            and held.offer.ref not in tries.places
            for held in self.leases.values()
        )

    def _is_bad(self, held: _Held) -> bool:
        return held.is_bad or held.machine_faults >= MACHINE_FAULTS_MAX

    def _let_go(self) -> Iterator[Command]:
        for lease_id, held in self.leases.items():
            if held.phase is Phase.RELEASING:
                continue
            reason = self._reason_to_release(held)
            if reason is not None:
                if self._is_bad(held):
                    self._strike(held.offer)
                    self._last_strike = reason
                held.phase = Phase.RELEASING
                yield Release(lease_id, reason)

    def _reason_to_release(self, held: _Held) -> str | None:
        if self._is_bad(held):
            return held.error or f"{held.machine_faults} failures in a row"
        if held.running:
            return None
        if self._is_stopping:
            return "the run stops"
        if self._has_work:
            return None
        # A machine that costs nothing waits until the last job is settled, in case one fails.
        is_kept = self._running and held.offer.usd_per_hour == 0
        return None if is_kept else "no work left"

    def _strike(self, offer: Offer) -> None:
        standing = self._standing.setdefault(_key(offer), _Standing())
        standing.free_at_s = self._now_s + COOLDOWN_S * 2**standing.strikes
        standing.strikes += 1

    def _wanted(self) -> int:
        """More leases that could be used now."""
        if self._is_stopping:
            return 0
        asked = sum(1 for held in self.leases.values() if held.phase is Phase.ASKED)
        return max(0, min(self._leases_max - len(self.leases), len(self._waiting) - asked))

    def _ask(self) -> Iterator[Command]:
        is_due = self._now_s - self._asked_at_s >= OFFERS_EVERY_S
        if self._wanted() and is_due and not self._is_asking:
            self._is_asking, self._asked_at_s = True, self._now_s
            yield AskOffers(self._leases_max)

    def _rent(self) -> Iterator[Command]:
        held = {_key(lease.offer) for lease in self.leases.values()}
        for offer in self._offers[: self._leases_max]:
            if not self._wanted():
                break
            if _key(offer) in held or not self._may_rent(offer):
                continue
            lease_id = LeaseId(f"{self._label}-lease-{self._leases_count:03d}")
            self._leases_count += 1
            self.leases[lease_id] = _Held(offer)
            yield Rent(offer, lease_id)

    def _may_rent(self, offer: Offer) -> bool:
        standing = self._standing.get(_key(offer))
        return standing is None or (
            standing.strikes < STRIKES_MAX and self._now_s >= standing.free_at_s
        )

    def _check(self) -> None:
        assert len(self.leases) <= self._leases_max
        assert sum(len(held.running) for held in self.leases.values()) == len(self._running)


def _key(offer: Offer) -> tuple[str, str]:
    return (offer.provider, offer.ref)
