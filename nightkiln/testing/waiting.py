"""Waiting for something that another task or process does, for a bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LOOK_EVERY_S = 0.01


async def until(holds: Callable[[], object], *, within_s: float = 30.0) -> None:
    """Return as soon as ``holds()`` is true.

    Raises:
        TimeoutError: it was not, in all that time.
    """
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110 - what it waits for knows nothing of events
            await asyncio.sleep(LOOK_EVERY_S)
