"""What became of a run's leases and jobs, gathered from its story; facts only, no words.

Jobs that went well at the first try are a million nobody asks about: only those with a history are
kept, and the one that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from nightkiln.core.events import (
    Blame,
    BudgetSet,
    Cancel,
    Command,
    Event,
    Extend,
    Failed,
    GiveUp,
    Lost,
    ProviderFailed,
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
from nightkiln.core.model import AttemptId, Fault, Host, JobId, LeaseId, Loss, Offer, Usd
from nightkiln.core.story import Cut, Opening, Step

ADOPTED = "adopted"  # from an earlier run, not rented anew
ASKED_KEPT_MAX = 10  # jobs whose id begins with what was asked for: more are never told


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that happened, at a time on the clock of ``Tick``."""

    at_s: float
    what: str  # rented | adopted | up | extended | lost | blamed | released | gone | stop | ...
    why: str = ""


@dataclass(slots=True)
class LeaseTale:
    """One lease."""

    id: LeaseId
    offer: Offer
    asked_s: float
    host: str = ""  # for people; empty: it never came up
    ready_s: float | None = None
    released_s: float | None = None  # confirmed
    usd: Usd | None = None
    loss: Loss | None = None
    done: int = 0
    failed: int = 0
    entries: list[Entry] = field(default_factory=list)


@dataclass(slots=True)
class Try:
    """One attempt at a job."""

    id: AttemptId
    job_id: JobId
    lease_id: LeaseId
    began_s: float
    ended_s: float | None = None
    how: str = "open"  # open | done | failed | lost | cancelled
    seconds: float = 0.0  # the machine was busy with it
    fault: Fault | None = None
    kind: str = ""
    error: str = ""
    taken_back: str = ""  # why it was asked back


@dataclass(slots=True)
class JobTale:
    """One job with a history."""

    id: JobId
    tries: list[Try] = field(default_factory=list)
    given_up_s: float | None = None
    fault: Fault | None = None
    error: str = ""

    @property
    def is_done(self) -> bool:
        """Whether a try succeeded."""
        return any(each.how == "done" for each in self.tries)


class Chronicle:
    """One run, gathered step by step. ``asked``: the beginning of a job's id, or empty."""

    def __init__(self, opening: Opening, *, asked: str = "") -> None:
        self.opening = opening
        self.leases: dict[LeaseId, LeaseTale] = {}
        self.jobs: dict[JobId, JobTale] = {}
        self.asked_for: set[JobId] = set()
        self.entries: list[Entry] = []  # of the run as a whole
        self.provider_errors: dict[str, list[str]] = {}
        self.done = 0
        self.given_up = 0
        self.cut: str | None = None
        self.now_s = opening.clock_s
        self._asked = asked
        self._running: dict[AttemptId, Try] = {}
        self._on: dict[LeaseId, set[AttemptId]] = {}
        self._last_on: dict[Host, LeaseId] = {}

    @property
    def usd(self) -> Usd:
        """What the leases that are gone have cost."""
        bills = (lease.usd for lease in self.leases.values() if lease.usd is not None)
        return sum(bills, Usd(0))

    def at_epoch_s(self, at_s: float) -> float:
        """Epoch seconds of a time on the clock of ``Tick``."""
        return self.opening.began_s + at_s - self.opening.clock_s

    def gather(self, lines: Iterable[Step | Cut]) -> None:
        """Take the whole story in."""
        for line in lines:
            if isinstance(line, Cut):
                self.cut = line.reason
                continue
            self._happened(line.event)
            for command in line.commands:
                self._decided(command)
        for each in list(self._running.values()):
            self._keep(each)

    # Events.

    def _happened(self, event: Event) -> None:
        match event:
            case Started(now_s) | Tick(now_s):
                self.now_s = max(self.now_s, now_s)
            case Rendered() | Failed():
                self._ended(event)
            case Rented() | Lost() | Released():
                self._lease_event(event)
            case ProviderFailed(provider, error):
                self.provider_errors.setdefault(provider, []).append(error)
            case StopRequested(_, reason):
                self.entries.append(Entry(self.now_s, "stop asked for", reason))
            case BudgetSet(usd):
                self.entries.append(Entry(self.now_s, "budget", f"{usd:.2f} USD from now on"))
            case _:
                pass  # offers and jobs that came in: what was made of them is told by commands

    def _ended(self, event: Rendered | Failed) -> None:
        attempt = self._leave(event.attempt_id)
        if attempt is None:
            return
        lease = self.leases.get(attempt.lease_id)
        if isinstance(event, Rendered):
            attempt.how, attempt.seconds = "done", event.seconds
            self.done += 1
        else:
            is_nobodys = event.fault is Fault.MARKET
            attempt.how = "cancelled" if is_nobodys else "failed"
            attempt.fault, attempt.kind, attempt.error = event.fault, event.kind, event.error
        if lease is not None:
            lease.done += attempt.how == "done"
            lease.failed += attempt.how == "failed"
        self._keep(attempt)

    def _lease_event(self, event: Rented | Lost | Released) -> None:
        lease_id = event.lease.id if isinstance(event, Rented) else event.lease_id
        lease = self.leases.get(lease_id)
        if lease is None:
            return
        match event:
            case Rented(ready):
                lease.host, lease.offer, lease.ready_s = ready.host, ready.offer, self.now_s
                lease.entries.append(Entry(self.now_s, "up"))
            case Lost(_, error, loss):
                # Its link and what was rendered there may both have seen it: it is told once.
                if lease.loss is None:
                    lease.entries.append(Entry(self.now_s, "lost", error))
                lease.loss = lease.loss if lease.loss is not None else loss
                self._lose_all(lease_id, error)
            case Released(_, usd, is_confirmed):
                lease.usd = usd
                lease.released_s = self.now_s if is_confirmed else None
                lease.entries.append(Entry(self.now_s, "gone" if is_confirmed else "given up"))
                self._lose_all(lease_id, "the lease was released")

    def _lose_all(self, lease_id: LeaseId, error: str) -> None:
        for attempt_id in sorted(self._on.get(lease_id, ())):
            attempt = self._leave(attempt_id)
            if attempt is not None:
                attempt.how, attempt.error = "lost", error
                self._keep(attempt)

    def _leave(self, attempt_id: AttemptId) -> Try | None:
        attempt = self._running.pop(attempt_id, None)
        if attempt is not None:
            attempt.ended_s = self.now_s
            self._on[attempt.lease_id].discard(attempt_id)
        return attempt

    def _keep(self, attempt: Try) -> None:
        """Remember a try, if it belongs to a job with a history."""
        job_id = attempt.job_id
        is_asked_for = self._is_asked_for(job_id)
        if attempt.how in {"failed", "lost", "cancelled"} or job_id in self.jobs or is_asked_for:
            self.jobs.setdefault(job_id, JobTale(job_id)).tries.append(attempt)

    def _is_asked_for(self, job_id: JobId) -> bool:
        if not self._asked or not job_id.startswith(self._asked):
            return False
        if len(self.asked_for) < ASKED_KEPT_MAX or job_id == self._asked:
            self.asked_for.add(job_id)
        return job_id in self.asked_for

    # Commands.

    def _decided(self, command: Command) -> None:
        match command:
            case Rent() | Extend() | Release() | Blame():
                self._lease_command(command)
            case Submit(lease_id, job_id, attempt_id):
                attempt = Try(attempt_id, job_id, lease_id, self.now_s)
                self._running[attempt_id] = attempt
                self._on.setdefault(lease_id, set()).add(attempt_id)
            case Cancel(_, attempt_id, reason):
                if attempt_id in self._running:
                    self._running[attempt_id].taken_back = reason
            case GiveUp(job_id, fault, error):
                job = self.jobs.setdefault(job_id, JobTale(job_id))
                job.given_up_s, job.fault, job.error = self.now_s, fault, error
                self.given_up += 1
                self._is_asked_for(job_id)
            case Stop(reason):
                self.entries.append(Entry(self.now_s, "stop", reason))
            case _:
                pass  # questions; their answers are events

    def _lease_command(self, command: Rent | Extend | Release | Blame) -> None:
        if isinstance(command, Rent):
            since_s = command.since_s if command.since_s is not None else self.now_s
            lease = LeaseTale(command.lease_id, command.offer, since_s)
            self.leases[command.lease_id] = lease
            self._last_on[command.offer.host_key] = lease.id
            what = "rented" if command.since_s is None else ADOPTED
            why = command.reason.removeprefix(f"{ADOPTED}: ")
            lease.entries.append(Entry(self.now_s, what, why))
            return
        if isinstance(command, Blame):
            host = (command.provider, command.machine)
            lease_id, why = self._last_on.get(host), f"{command.cause}|{command.ttl_s}"
            entry = Entry(self.now_s, "blamed", why)
        elif isinstance(command, Extend):
            lease_id, entry = command.lease_id, Entry(self.now_s, "extended")
        else:
            lease_id, entry = command.lease_id, Entry(self.now_s, "released", command.reason)
        found = self.leases.get(lease_id) if lease_id is not None else None
        if found is not None:
            found.entries.append(entry)
        elif isinstance(command, Release):
            self.entries.append(Entry(self.now_s, f"sent back {lease_id}", command.reason))
