"""A clock that runs faster: an event loop in which an hour passes in seconds, and sockets work.

For nights that somebody watches. Nothing is skipped: every wait is a real one, only shorter, and
whatever counts seconds (limits, pauses, prices per hour) counts those of this clock. A computer
that is busy elsewhere makes the night longer to watch, but is no stall inside it.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

LAG_S_MAX = 0.02  # real seconds that one round of the loop may cost: more is not told to the clock

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T], *, times: float) -> T:
    """``asyncio.run`` with a clock that begins at 0 and runs ``times`` as fast."""
    with asyncio.Runner(loop_factory=lambda: HurriedLoop(times)) as runner:
        return runner.run(main)


class HurriedLoop(asyncio.SelectorEventLoop):
    """An ordinary asyncio loop by a faster clock; it stands still while callbacks run."""

    def __init__(self, times: float) -> None:
        self._waits = _Waits(times)
        super().__init__(self._waits)

    def time(self) -> float:
        return self._waits.now_s


class _Waits(selectors.DefaultSelector):
    """Waits for timers and sockets, and keeps the clock."""

    def __init__(self, times: float) -> None:
        assert times > 0
        super().__init__()
        self.now_s = 0.0
        self._times, self._seen_s = times, time.monotonic()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        wait_s = None if timeout is None else timeout / self._times
        ready = super().select(wait_s)
        real_s = time.monotonic()
        allowed_s = LAG_S_MAX + (max(wait_s, 0.0) if wait_s is not None else 0.0)
        self.now_s += min(real_s - self._seen_s, allowed_s) * self._times
        self._seen_s = real_s
        return ready
