"""What the scheduler knows: its leases, attempts, jobs, offers and money. No rule is in here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from math import inf

from nightkiln.core.budget import Ledger
from nightkiln.core.events import Capacity, Known
from nightkiln.core.learning import Knowledge, Outlook
from nightkiln.core.market import FREE_OFFERS_EVERY_S, Market
from nightkiln.core.model import AttemptId, Host, JobId, LeaseId, Offer
from nightkiln.core.pricing import Quoter
from nightkiln.core.routing import Queue
from nightkiln.core.terms import DEADLINE_S_UNSAID, Late, Terms

CROWD = 32  # leases: a change of one of so many can wait for ...
CROWD_PAUSE_S = 5.0


class Phase(Enum):
    """Where a lease stands. One that is released is no longer in the state."""

    ASKED = "asked"
    READY = "ready"
    DRAINING = "draining"  # finishes what it has, gets nothing more
    RELEASING = "releasing"


@dataclass(slots=True)
class Held:
    """What we know of one lease."""

    id: LeaseId
    offer: Offer
    asked_s: float
    expires_s: float  # its life, as reserved
    jobs_paid: int  # jobs whose results are paid for, as reserved
    phase: Phase = Phase.ASKED
    ready_s: float = 0.0
    running: dict[AttemptId, JobId] = field(default_factory=dict)  # in the order of submission
    mark: str = ""  # what it has loaded
    done: int = 0
    last_end_s: float = 0.0  # when an attempt here ended last
    faults_in_a_row: int = 0  # of the machine, with no success between
    is_useless: bool = False  # the next job would fail there, too
    is_bad: bool = False  # to be released at once
    error: str = ""
    rented_s: float | None = None  # by an earlier run of this batch; None: by this one

    @property
    def is_adopted(self) -> bool:
        """Whether an earlier run has rented it."""
        return self.rented_s is not None

    @property
    def since_s(self) -> float:
        """Since when it is ours, or was asked for."""
        return self.rented_s if self.rented_s is not None else self.asked_s

    @property
    def is_open(self) -> bool:
        """Whether it may be given jobs, apart from having room."""
        return self.phase is Phase.READY and not self.is_bad

    @property
    def has_room(self) -> bool:
        """Whether one more job may be handed out."""
        given = len(self.running)
        return given < self.offer.slots and self.done + given < self.jobs_paid


@dataclass(slots=True)
class Trying:
    """One attempt under way."""

    lease_id: LeaseId
    job_id: JobId
    submitted_s: float
    is_cancelled: bool = False
    is_moot: bool = False  # the job has its result from elsewhere
    is_overdue: bool = False  # cancelled since it took far too long: the machine's fault


@dataclass(slots=True)
class State:
    """Everything. Mutated by ``recording`` and by the rules, in that order."""

    terms: Terms
    knowledge: Knowledge
    quoter: Quoter
    ledger: Ledger
    market: Market
    queue: Queue = field(default_factory=Queue)
    leases: dict[LeaseId, Held] = field(default_factory=dict)
    trying: dict[AttemptId, Trying] = field(default_factory=dict)
    late: dict[AttemptId, tuple[JobId, Host]] = field(default_factory=dict)  # lost, may yet answer
    attempts_of: dict[JobId, list[AttemptId]] = field(default_factory=dict)  # of jobs tried now
    healthy: set[Host] = field(default_factory=set)  # machines that have rendered something
    doubts: dict[Host, int] = field(default_factory=dict)  # jobs failed there, done elsewhere
    alike: dict[str, set[Host]] = field(default_factory=dict)  # failures by kind, none succeeded
    starts_alike: dict[str, set[Host]] = field(default_factory=dict)  # the same, before any is up
    said_alike: dict[str, str] = field(default_factory=dict)  # of both: the last in full
    came_up: bool = False  # any machine that is not free
    released: set[LeaseId] = field(default_factory=set)  # not held here, and already sent back
    left_behind: dict[LeaseId, Known | None] = field(default_factory=dict)  # by earlier runs
    adopted: set[LeaseId] = field(default_factory=set)  # that were, whatever became of them
    now_s: float = 0.0
    started_s: float = 0.0
    deadline_s: float = inf
    capacity: Capacity | None = None  # of the controller itself, once measured
    done: int = 0
    failed: int = 0
    ready_at_s: float = 0.0  # when a machine was last up
    last_trouble: str = ""  # of a machine, for people
    stranded_s: dict[JobId, float] = field(default_factory=dict)  # failed everywhere, since when
    poor_s: float | None = None  # since when nothing can be rented for want of money
    stop_reason: str | None = None
    is_out_of_money: bool = False  # why it stops
    cancels: bool = False  # a stop that hands running jobs back
    dirty: set[LeaseId] = field(default_factory=set)  # leases that may have room
    suspects: set[LeaseId] = field(default_factory=set)  # leases that may have a reason to go
    is_fleet_dirty: bool = True  # leases or offers changed: look at the fleet
    planned_at_s: float = -inf
    swapped_at_s: float = -inf
    leases_count: int = 0
    attempts_count: int = 0

    def start(self, now_s: float) -> None:
        """The clock begins to run."""
        self.now_s = self.started_s = self.ready_at_s = now_s
        wanted = self.terms.deadline_s
        self.deadline_s = wanted if wanted is not None else now_s + DEADLINE_S_UNSAID

    # Work.

    @property
    def is_stopping(self) -> bool:
        return self.stop_reason is not None

    @property
    def remaining(self) -> int:
        """Jobs without an end, as far as anybody can tell."""
        queue, jobs = self.queue, self.terms.jobs
        if queue.is_exhausted or jobs is None:
            return queue.open
        return max(queue.open, jobs - self.done - self.failed)

    @property
    def jobs_per_s_max(self) -> float | None:
        """Results that the controller can take in, as told or measured; None: nobody knows."""
        known = [self.terms.jobs_per_s_max, self.capacity.jobs_per_s if self.capacity else None]
        return min((each for each in known if each is not None), default=None)

    @property
    def unstarted(self) -> int:
        """Jobs that a new machine could be given: those that wait, here or behind others."""
        heads = sum(1 for held in self.leases.values() if held.running)
        return self.remaining - min(heads, len(self.attempts_of))

    @property
    def is_proven(self) -> bool:
        """Whether this workflow has ever given a verified result."""
        return self.knowledge.scores.workflow_jobs > 0

    # Time.

    @property
    def left_s(self) -> float:
        """Seconds until everything should be done; a part of the time is kept as a margin."""
        until_s = self.deadline_s - self.now_s
        kept_s = self.terms.rules.safety * (self.deadline_s - self.started_s)
        is_due = self.terms.late is Late.STOP and self.terms.deadline_s is not None
        if until_s <= 0 and not is_due:
            return DEADLINE_S_UNSAID  # late already: from now on as cheap as can be
        return max(until_s - kept_s, until_s / 2)

    @property
    def is_plan_due(self) -> bool:
        """Whether to look at the fleet: it changed, or nobody has looked for long.

        Where many machines come and go, changes are looked at together.
        """
        since_s = self.now_s - self.planned_at_s
        if self.is_fleet_dirty and (len(self.leases) < CROWD or since_s >= CROWD_PAUSE_S):
            return True
        is_free = self.market.is_free  # machines for free are cheap to ask
        return since_s >= (FREE_OFFERS_EVERY_S if is_free else self.terms.rules.plan_every_s)

    # Leases.

    def knows(self, lease_id: LeaseId) -> bool:
        """Whether it is held here, or on its way back."""
        return lease_id in self.leases or lease_id in self.released

    def with_phase(self, *phases: Phase) -> Iterator[Held]:
        """Leases in any of the phases."""
        return (held for held in self.leases.values() if held.phase in phases)

    def hosts(self) -> set[Host]:
        """Machines that we have or are getting."""
        return {held.offer.host_key for held in self.leases.values()}

    def leases_on(self, host: Host) -> Iterator[LeaseId]:
        """What we have of one machine."""
        return (held.id for held in self.leases.values() if held.offer.host_key == host)

    def places(self) -> Iterator[Offer]:
        """Where jobs can be handed out, now or soon."""
        open_ones = self.with_phase(Phase.ASKED, Phase.READY)
        return (held.offer for held in open_ones if not held.is_bad)

    def outlook(self, offer: Offer) -> Outlook:
        """What to expect of an offer."""
        return self.knowledge.outlook(offer)

    def open_offers(self) -> Iterator[Offer]:
        """Offers that may be rented now: known, not ours already, not blocked."""
        taken = self.hosts()
        for offer in self.market.usable(self.now_s):
            if offer.host_key not in taken and self.may_use(is_serverless=offer.is_serverless):
                yield offer

    def has_use_for(self, offer: Offer) -> bool:
        """Whether it could be given something: not all that waits has failed there."""
        queue = self.queue
        if queue.has_for(offer, self.spares) or not queue.is_exhausted:
            return True
        return self.unstarted > len(queue)  # what waits behind others may come to it

    def may_use(self, *, is_serverless: bool) -> bool:
        """Whether the user's choice of fallback lets us rent such an offer at all."""
        return self.terms.fallback.allows(is_serverless=is_serverless)

    def spares(self, job_id: JobId, offer: Offer) -> bool:
        """Whether a container is not to have a job that would perhaps fail everywhere.

        A machine that we have, and where it has not failed, will tell for less.
        """
        tries = self.queue.tries.get(job_id)
        if tries is None or not tries.is_doubtful or not offer.is_serverless:
            return False
        machines = (place for place in self.places() if not place.is_serverless)
        return any(self.queue.may_run(job_id, place) for place in machines)

    def lease_of(self, attempt_id: AttemptId) -> Held:
        return self.leases[self.trying[attempt_id].lease_id]
