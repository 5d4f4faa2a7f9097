"""Several observers as one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from nightkiln.core.model import Lease
from nightkiln.ports.observer import Observer, Progress


class Several:
    """Tells everything to each, in order."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    @asynccontextmanager
    async def lease(self, lease: Lease) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for observer in self._observers:
                await stack.enter_async_context(observer.lease(lease))
            yield

    async def event(self, name: str, fields: Mapping[str, Any]) -> None:
        for observer in self._observers:
            await observer.event(name, fields)

    async def progress(self, progress: Progress) -> None:
        for observer in self._observers:
            await observer.progress(progress)
