"""Somebody who watches a batch: the terminal, JSON lines, Prefect."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from nightkiln.core.model import Lease


@dataclass(frozen=True, slots=True)
class WorkerProgress:
    """One lease's share of the work so far."""

    lease_id: str
    host: str
    provider: str
    gpu: str
    state: str  # starting | ready | draining | lost | released | not released
    done: int
    failed: int  # attempts
    running: int
    doing: str = ""  # while it starts, in a few words
    busy_s: float = 0.0  # GPU seconds of all its attempts
    usd: float = 0.0  # so far, by our own count


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a batch stands; ``total`` counts all its jobs, also those of earlier runs."""

    batch: str
    total: int
    done: int  # verified now or in an earlier run of this batch
    reused: int
    failed: int
    outputs: int  # files verified by this run
    elapsed_s: float
    images_per_minute: float  # over the last minute
    eta_s: float | None
    workers: tuple[WorkerProgress, ...] = field(default=())

    @property
    def left(self) -> int:
        return self.total - self.done - self.reused - self.failed


class Observer(Protocol):
    """Can neither block nor fail a batch: the shell drops what an observer cannot take."""

    def lease(self, lease: Lease) -> AbstractAsyncContextManager[None]:
        """Around the life of a lease."""

    async def event(self, name: str, fields: Mapping[str, Any]) -> None:
        """Something happened; ``name`` as in the journal, ``fields`` JSON-safe, no secrets."""

    async def progress(self, progress: Progress) -> None:
        """The latest count, at most every second or so."""
