"""What the scheduler is told (events) and what it asks for (commands).

Events are facts in the past tense, commands are orders. Both are plain data, so a night can be
written down and played again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from nightkiln.core.model import AttemptId, Fault, JobId, Lease, LeaseId, Offer


# What happened.
@dataclass(frozen=True, slots=True)
class Started:
    """The run begins."""

    now_s: float


@dataclass(frozen=True, slots=True)
class Queued:
    """Answer to ``FetchJobs``; ``is_last`` when the catalog has no more."""

    jobs: tuple[JobId, ...]
    is_last: bool


@dataclass(frozen=True, slots=True)
class Offered:
    """Answer to ``AskOffers``, of all providers together."""

    offers: tuple[Offer, ...]


@dataclass(frozen=True, slots=True)
class Rented:
    """The lease is up and renders."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Rendered:
    """The job's outputs are verified and durable."""

    attempt_id: AttemptId


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


@dataclass(frozen=True, slots=True)
class Released:
    """Nothing is paid for this lease any more."""

    lease_id: LeaseId


@dataclass(frozen=True, slots=True)
class StopRequested:
    """By the user. ``is_now``: hand running jobs back instead of finishing them."""

    is_now: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passes; the only clock there is."""

    now_s: float


# What to do about it.
@dataclass(frozen=True, slots=True)
class FetchJobs:
    """Bring the next jobs of the catalog; answered by ``Queued``."""

    count_max: int


@dataclass(frozen=True, slots=True)
class AskOffers:
    """Ask every provider what could be had; answered by ``Offered``."""

    count_max: int


@dataclass(frozen=True, slots=True)
class Rent:
    """Rent and connect; answered by ``Rented`` or ``Lost``."""

    offer: Offer
    lease_id: LeaseId


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


@dataclass(frozen=True, slots=True)
class Release:
    """Stop paying; answered by ``Released``."""

    lease_id: LeaseId
    reason: str


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
    Started | Queued | Offered | Rented | Rendered | Failed | Lost | Released | StopRequested | Tick
)
Command: TypeAlias = FetchJobs | AskOffers | Rent | Submit | Cancel | Release | GiveUp | Stop
