"""Gives leases back: many in one call where they go together, again and again while that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TypeVar

from nightkiln.core.model import LeaseId
from nightkiln.ports.provider import Provider

RELEASE_TRY_S_MAX = 30.0  # for one answer of the provider
PAUSE_S, PAUSE_S_MAX = 0.1, 5.0  # between two tries, doubling
TOGETHER_MAX = 2  # tries with the others: then one that cannot be released holds up only itself

T = TypeVar("T")


@dataclass(slots=True)
class Releases:
    """The way back to one provider.

    Leases that are to go while a call is under way wait for the next one, all together: fifty
    machines are two calls, not fifty in a row behind somebody's rate limit.
    """

    provider: Provider
    _waiting: dict[LeaseId, asyncio.Future[None]] = field(default_factory=dict)
    _sending: asyncio.Task[None] | None = None

    async def give_back(self, lease_id: LeaseId, *, for_s: float) -> str | None:
        """Release, tried again for ``for_s`` seconds; None, or what went wrong the last time."""
        loop, pause_s, tries = asyncio.get_running_loop(), PAUSE_S, 0
        until_s = loop.time() + for_s  # the loop's own time, which may be a played night's
        while True:
            tries += 1
            try:
                if tries <= TOGETHER_MAX:
                    await self._with_others(lease_id)
                else:
                    await self._release([lease_id])
            except Exception as error:  # noqa: BLE001 - whatever a plug-in raises, it is not given back
                if loop.time() >= until_s:
                    name = type(error).__name__
                    return f"{name}: {error}" if str(error) else name
            else:
                return None
            await asyncio.sleep(pause_s)  # without chance: a night played twice is the same night
            pause_s = min(2 * pause_s, PAUSE_S_MAX)

    async def _with_others(self, lease_id: LeaseId) -> None:
        answer = self._waiting.get(lease_id)
        if answer is None:
            answer = self._waiting[lease_id] = asyncio.get_running_loop().create_future()
        if self._sending is None:
            # Not of the run's own tasks: whatever ends those, this call is seen through.
            self._sending = asyncio.create_task(self._send(), name=f"release {self.provider.name}")
        await asyncio.shield(answer)

    async def _send(self) -> None:
        """Release all who wait, until nobody does."""
        try:
            while True:
                await asyncio.sleep(0)  # whoever is told to go at the same moment comes along
                if not self._waiting:
                    return
                together, self._waiting = self._waiting, {}
                try:
                    await self._release(list(together))
                except Exception as error:  # noqa: BLE001 - it is for those who wait to hear
                    for answer in together.values():
                        answer.set_exception(error)
                        answer.exception()  # also if whoever waited is gone
                else:
                    for answer in together.values():
                        answer.set_result(None)
        finally:
            self._sending = None

    async def _release(self, lease_ids: list[LeaseId]) -> None:
        async with asyncio.timeout(RELEASE_TRY_S_MAX):
            await self.provider.release(lease_ids)


async def see_through(work: Awaitable[T]) -> tuple[T, bool]:
    """What ``work`` gives, however often we are told to end meanwhile, and whether we were."""
    task, was_cancelled = asyncio.ensure_future(work), False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            was_cancelled = True
    return task.result(), was_cancelled
