"""Two clocks: the wall's, by which is billed, and the story's, by which things happen."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from itertools import count

LOOK_S = 0.5  # seconds between two looks at what is due, at most; also when credit is looked at
EVENTS_MAX = 1_000_000  # in one agenda; more is a mistake


def steady_clock() -> Callable[[], float]:
    """Epoch seconds that never jump: the wall clock at this moment, and how long since."""
    epoch_s, began_s = time.time(), time.monotonic()
    return lambda: epoch_s + time.monotonic() - began_s


class StoryClock:
    """Seconds of the story since it began, ``speed`` of them to a second of the wall."""

    def __init__(self, speed: float, now: Callable[[], float]) -> None:
        assert speed > 0
        self.speed, self._now = speed, now
        self._wall_s, self._story_s = now(), 0.0  # one moment, as both clocks have it

    @property
    def wall_s(self) -> float:
        """Epoch seconds."""
        return self._now()

    @property
    def story_s(self) -> float:
        return self._story_s + (self._now() - self._wall_s) * self.speed

    def skip(self, story_s: float) -> None:
        """So much of the story happens at this very moment."""
        assert story_s >= 0
        self._story_s, self._wall_s = self.story_s + story_s, self._now()

    def wall_of(self, story_s: float) -> float:
        """When that is by the wall; what was skipped over is the moment of the skip."""
        return self._wall_s + max(0.0, story_s - self._story_s) / self.speed


class Agenda:
    """What will happen, in order; ``run`` lets happen what is due."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._changed = asyncio.Event()
        self.now_s = 0.0  # the moment of the story that is being told

    def at(self, story_s: float, happen: Callable[[], None]) -> None:
        """Let it happen then; infinite: never. What is past happens at the next run."""
        if story_s == float("inf"):
            return
        assert len(self._due) < EVENTS_MAX
        heapq.heappush(self._due, (story_s, next(self._numbers), happen))
        self._changed.set()

    def run(self, until_s: float) -> None:
        """Everything up to this moment, each thing at its own."""
        while self._due and self._due[0][0] <= until_s:
            due_s, _, happen = heapq.heappop(self._due)
            self.now_s = max(self.now_s, due_s)
            happen()
        self.now_s = max(self.now_s, until_s)

    async def wait(self, clock: StoryClock) -> None:
        """Until something is due, or new, or it is time to look at the credit."""
        self._changed.clear()
        wait_s = LOOK_S
        if self._due:
            wait_s = min(wait_s, (self._due[0][0] - clock.story_s) / clock.speed)
        try:
            async with asyncio.timeout(max(0.0, wait_s)):
                await self._changed.wait()
        except TimeoutError:
            return
