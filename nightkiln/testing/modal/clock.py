"""When things happen: by the story's clock; what is billed is billed by the wall's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from nightkiln.testing.vast_market.clock import Agenda, StoryClock, steady_clock


class Clock:
    """Both clocks, and what will happen; the same two as those of the simulated market."""

    def __init__(self, speed: float) -> None:
        self._clock = StoryClock(speed, steady_clock())
        self._agenda = Agenda()

    @property
    def wall_s(self) -> float:
        """Epoch seconds."""
        return self._clock.wall_s

    @property
    def story_s(self) -> float:
        """Seconds of the story since it began."""
        return self._clock.story_s

    @property
    def speed(self) -> float:
        return self._clock.speed

    def after(self, story_s: float, happen: Callable[[], None]) -> None:
        """Let it happen so much later in the story."""
        self._agenda.at(self.story_s + story_s, happen)

    async def sleep(self, story_s: float) -> None:
        """Until so much of the story has passed; infinite: for ever."""
        over = asyncio.Event()
        self.after(story_s, over.set)
        await over.wait()

    def skip(self, story_s: float) -> None:
        """So much of the story happens at this very moment."""
        self._clock.skip(story_s)
        self._agenda.run(self._clock.story_s)

    async def keep(self) -> None:
        """Let happen what is due, for ever."""
        while True:
            self._agenda.run(self._clock.story_s)
            await self._agenda.wait(self._clock)
