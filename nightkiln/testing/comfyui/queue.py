"""The prompt queue and the history."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Any, TypeAlias

from nightkiln.core.model import Graph

# Number, prompt id, graph, extra data, output nodes. A tuple, compared as ComfyUI compares: two
# waiting items of the same number *and* id make it compare dictionaries, which raises TypeError,
# after the item was taken in, and once more in the worker, which that ends.
Item: TypeAlias = tuple[float, str, Graph, dict[str, Any], list[str]]

HISTORY_MAX = 10_000


class WorkerDied(Exception):
    """The worker thread is no more; nothing will run from now on, and HTTP goes on answering."""


class PromptQueue:
    """What waits, what runs and what is over."""

    def __init__(self, changed: Callable[[int], None]) -> None:
        self.pending: list[Item] = []
        self.running: Item | None = None
        self.history: dict[str, Any] = {}
        self._changed = changed
        self._wake = asyncio.Event()
        self.idle = asyncio.Event()
        self.idle.set()

    @property
    def remaining(self) -> int:
        return len(self.pending) + (self.running is not None)

    def put(self, item: Item) -> None:
        self.idle.clear()
        heapq.heappush(self.pending, item)
        self._wake.set()
        self._tell()

    async def get(self) -> Item:
        """The item with the lowest number; it runs from now on.

        Raises:
            WorkerDied: two items cannot be compared.
        """
        while not self.pending:
            self._wake.clear()
            await self._wake.wait()
        try:
            self.running = item = heapq.heappop(self.pending)
        except TypeError as error:
            raise WorkerDied from error
        self._tell()
        return item

    def finish(self, entry: dict[str, Any] | None) -> None:
        """The running item is over; without an entry, history forgets it and all before it."""
        assert self.running is not None, "nothing is running"
        prompt_id, self.running = self.running[1], None
        if entry is None:
            self.history.clear()
        else:
            if len(self.history) >= HISTORY_MAX:
                self.history.pop(next(iter(self.history)))
            self.history[prompt_id] = entry
        self._tell()

    def delete(self, prompt_id: str) -> None:
        """Take one waiting item out; nothing happens if there is none."""
        for position, item in enumerate(self.pending):
            if item[1] == prompt_id:
                del self.pending[position]
                heapq.heapify(self.pending)
                self._tell()
                return

    def clear(self) -> None:
        """Take all waiting items out."""
        self.pending.clear()
        self._tell()

    def _tell(self) -> None:
        if self.remaining == 0:
            self.idle.set()
        self._changed(self.remaining)

    def told(self) -> dict[str, Any]:
        """As ``GET /queue`` tells it; what waits is in heap order, not sorted."""
        return {
            "queue_running": [self.running] if self.running is not None else [],
            "queue_pending": self.pending,
        }

    def latest(self, count: int | None, offset: int) -> dict[str, Any]:
        """A stretch of the history: the newest ``count`` where ``offset`` is negative."""
        entries = list(self.history.items())
        if offset < 0 and count is not None:
            offset = len(entries) - count
        start = max(0, offset)
        stop = len(entries) if count is None else start + count
        return dict(entries[start:stop])
