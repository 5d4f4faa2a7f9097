"""What the scheduler is told (events) and what it asks for (commands).

Events are facts in the past tense, commands are orders. Both are plain data, so a night can be
written down and played again. Times named ``_s`` are seconds on the clock of ``Tick``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from nightkiln.core.model import AttemptId, Fault, JobId, Lease, LeaseId, Loss, Offer, Usd


@dataclass(frozen=True, slots=True)
class ProviderFacts:
    """What a scheduler has to know of a provider."""

    name: str
    bills: bool
    can_list: bool = False  # asked at the start what an earlier run has left there


# What happened.
@dataclass(frozen=True, slots=True)
class Started:
    """The run begins."""

    now_s: float
    providers: tuple[ProviderFacts, ...]


@dataclass(frozen=True, slots=True)
class Queued:
    """Answer to ``FetchJobs``; ``is_last`` when the catalog has no more.

    ``marks`` says, job for job, what a worker has to have loaded for it (a checkpoint); empty when
    all jobs are alike.
    """

    jobs: tuple[JobId, ...]
    is_last: bool
    marks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Offered:
    """Answer to ``AskOffers``: all that the provider has now."""

    provider: str
    offers: tuple[Offer, ...]


@dataclass(frozen=True, slots=True)
class ProviderFailed:
    """A provider did not answer, or refused; says nothing about machines."""

    provider: str
    error: str
    is_listing: bool = False  # it was asked what is billed, else what it offers


@dataclass(frozen=True, slots=True)
class Rented:
    """The lease is up and renders."""

    lease: Lease
    loading_s: float = 0.0  # of its start, before the GPU was fully billed; 0: nobody says


@dataclass(frozen=True, slots=True)
class Rendered:
    """The job's outputs are verified and durable; ``seconds`` the machine was busy with it."""

    attempt_id: AttemptId
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Failed:
    """One attempt failed; ``kind`` is short and stable, ``error`` is for people."""

    attempt_id: AttemptId
    fault: Fault
    kind: str
    error: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The lease never came up, or is gone."""

    lease_id: LeaseId
    error: str
    loss: Loss = Loss.LOST


@dataclass(frozen=True, slots=True)
class Released:
    """Nothing is paid for this lease any more; ``usd`` is its bill, where it is known.

    Not ``is_confirmed``: we have given it up, but nobody says that it ended, so it may still cost
    money; what was reserved for it stays reserved.
    """

    lease_id: LeaseId
    usd: Usd | None = None
    is_confirmed: bool = True


@dataclass(frozen=True, slots=True)
class Known:
    """A lease that an earlier run of this batch has left, as it was written down."""

    lease_id: LeaseId
    offer: Offer
    asked_s: float  # when it was rented; mostly before this run began
    expires_s: float  # then it ends by itself


@dataclass(frozen=True, slots=True)
class Owned:
    """Answer to ``ListOwned``: leases that the provider still bills, of whatever batch."""

    provider: str
    lease_ids: tuple[LeaseId, ...]
    known: tuple[Known, ...] = ()  # those of them that could be gone on with


@dataclass(frozen=True, slots=True)
class StopRequested:
    """By the user. ``is_now``: hand running jobs back instead of finishing them."""

    is_now: bool
    reason: str


@dataclass(frozen=True, slots=True)
class BudgetSet:
    """From now on the run may spend this, less than before or more.

    What it has spent and reserved until now stays, also where that is above it.
    """

    usd: Usd


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the controller itself can take, as measured."""

    jobs_per_s: float  # downloaded, checked and kept
    jobs_room: int | None  # whose results the disk has room for; None: unknown


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passes; the only clock there is."""

    now_s: float
    capacity: Capacity | None = None  # None: not measured, or as before


# What to do about it.
@dataclass(frozen=True, slots=True)
class FetchJobs:
    """Bring the next jobs of the catalog; answered by ``Queued``."""

    count_max: int


@dataclass(frozen=True, slots=True)
class AskOffers:
    """Ask what could be had; answered by ``Offered`` or ``ProviderFailed``."""

    provider: str
    count_max: int


@dataclass(frozen=True, slots=True)
class ListOwned:
    """Ask what is billed to us; answered by ``Owned`` or ``ProviderFailed``."""

    provider: str


@dataclass(frozen=True, slots=True)
class Rent:
    """Rent and connect; answered by ``Rented`` or ``Lost``, and in the end by ``Released``."""

    offer: Offer  # its ``startup_s`` is how long the start may take
    lease_id: LeaseId
    expires_at_s: float  # then it ends by itself, whatever became of us
    reason: str
    since_s: float | None = None  # an earlier run rented it then: it is only connected to


@dataclass(frozen=True, slots=True)
class Extend:
    """Let the lease live until ``expires_at_s``."""

    lease_id: LeaseId
    expires_at_s: float


@dataclass(frozen=True, slots=True)
class Submit:
    """Render the job there; answered by ``Rendered``, ``Failed`` or ``Lost``."""

    lease_id: LeaseId
    job_id: JobId
    attempt_id: AttemptId


@dataclass(frozen=True, slots=True)
class Cancel:
    """Hand a running attempt back; answered by ``Failed`` with ``Fault.MARKET``."""

    lease_id: LeaseId
    attempt_id: AttemptId
    reason: str


@dataclass(frozen=True, slots=True)
class Release:
    """Stop paying; answered by ``Released``."""

    lease_id: LeaseId
    reason: str


@dataclass(frozen=True, slots=True)
class Blame:
    """Remember, also in later nights, not to rent this machine for ``ttl_s``."""

    provider: str
    machine: str
    cause: str
    ttl_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The job ends here as one explained failure."""

    job_id: JobId
    fault: Fault
    error: str


@dataclass(frozen=True, slots=True)
class Stop:
    """The run ends before its work is done; unsettled jobs stay for the next run."""

    reason: str


Event: TypeAlias = (
    Started
    | Queued
    | Offered
    | ProviderFailed
    | Rented
    | Rendered
    | Failed
    | Lost
    | Released
    | Owned
    | StopRequested
    | BudgetSet
    | Tick
)
Command: TypeAlias = (
    FetchJobs
    | AskOffers
    | ListOwned
    | Rent
    | Extend
    | Submit
    | Cancel
    | Release
    | Blame
    | GiveUp
    | Stop
)
