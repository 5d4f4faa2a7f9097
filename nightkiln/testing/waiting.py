"""Waiting for something that another task or process does, for a bounded time."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

LOOK_EVERY_S = 0.01
HANGS_S = 100.0  # what starts a process takes seconds, on a busy computer half a minute


async def until(
    holds: Callable[[], object | Awaitable[object]], *, within_s: float = HANGS_S
) -> None:
    """Return as soon as ``holds()``, which may be a coroutine function, is true.

    Raises:
        TimeoutError: it was not, in all that time.
    """
    async with asyncio.timeout(within_s):
        while True:
            held = holds()
            if await held if inspect.isawaitable(held) else held:
                return
            await asyncio.sleep(LOOK_EVERY_S)  # what it waits for knows nothing of events
