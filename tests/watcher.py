"""An observer that keeps what it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from nightkiln.core.model import Lease
from nightkiln.observers.sentences import sentence
from nightkiln.ports.observer import Progress


class Watcher:
    """Keeps what a night tells."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Mapping[str, Any]]] = []
        self.latest: Progress | None = None

    @asynccontextmanager
    async def lease(self, lease: Lease) -> AsyncIterator[None]:
        del lease
        yield

    async def event(self, name: str, fields: Mapping[str, Any]) -> None:
        self.events.append((name, fields))

    async def progress(self, progress: Progress) -> None:
        self.latest = progress

    def told(self) -> str:
        """What people would read."""
        return "\n".join(said for one in self.events if (said := sentence(*one)) is not None)

    def names(self) -> list[str]:
        """Of the events, in order."""
        return [name for name, _ in self.events]
