"""What is written down about a lease once it is over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from nightkiln.core.model import LeaseId, Offer


@dataclass(frozen=True, slots=True)
class LeaseEnd:
    """What is written down about a lease once it is over. Times are epoch seconds."""

    id: LeaseId
    offer: Offer  # with the GPU as the worker named it
    host: str
    rented_s: float
    ready_s: float | None
    released_s: float
    reason: str
    jobs_done: int
    attempts_failed: int
    busy_s: float


LeaseLog = Callable[[LeaseEnd], Awaitable[None]]
