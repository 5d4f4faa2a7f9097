"""One attempt under way, as whoever may have to end it sees it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


@dataclass(slots=True)
class Render:
    """One attempt under way."""

    task: asyncio.Task[None]
    is_landing: bool = False  # verified, being kept: beyond cancelling
    is_telling: bool = False  # that the lease is lost: cut off, nobody would hear of its jobs
    is_cancelled: bool = False  # by the scheduler: the user stops

    def cancel(self) -> None:
        """Hand the job back, unless it is beyond that."""
        if self.is_cancellable:
            self.is_cancelled = True
            self.task.cancel()

    @property
    def is_cancellable(self) -> bool:
        """Whether ending it now leaves nothing half said or half kept."""
        return not self.is_landing and not self.is_telling
