"""A sweep as the settings want it; the same for the command line and for the flow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack

from nightkiln.core.reaping import UNKNOWN_S, ReapRules
from nightkiln.lease_book import LeaseBook
from nightkiln.places import that_bill
from nightkiln.ports.provider import Provider
from nightkiln.reap import ENDED_MAX, Swept, reap
from nightkiln.settings import Settings
from nightkiln.sighting import Sight, look, look_at_book

LOOK_S_MAX = 10.0  # for a service to list what is ours, while somebody waits for it


def rules_of(settings: Settings, *, unknown_s: float = UNKNOWN_S) -> ReapRules:
    """What a sweep of these settings goes by."""
    return ReapRules(
        fleet=settings.fleet,
        silence_s=settings.deadman_s,
        usd_per_hour_max=settings.vast_usd_per_hour_max,
        unknown_s=unknown_s,
    )


async def looked(
    settings: Settings,
    *,
    unknown_s: float = UNKNOWN_S,
    is_offline: bool = False,
    is_needed: bool = False,
    asks: Mapping[str, Provider] | None = None,
    clock: Callable[[], float] = time.time,
) -> Sight:
    """What is billed now and what the book says; changes nothing.

    ``is_offline``: nobody is asked. ``is_needed``: it is an error if there is nobody. ``asks``:
    these instead of those that are set up.

    Raises:
        BadInput: there is nobody to ask, where that is needed.
        StoreUnusable: the book cannot be read.
    """
    rules, book = rules_of(settings, unknown_s=unknown_s), LeaseBook(settings.state_folder)
    async with AsyncExitStack() as stack:
        found: Mapping[str, Provider] = {}
        if not is_offline:
            found = await _entered(settings, asks, stack, list_s=LOOK_S_MAX)
        if not found and not is_needed:
            return await asyncio.to_thread(look_at_book, book, rules, now_s=clock())
        return await look(found, book, rules, now_s=clock())


async def swept(
    settings: Settings,
    *,
    unknown_s: float = UNKNOWN_S,
    ended_max: int = ENDED_MAX,
    asks: Mapping[str, Provider] | None = None,
    clock: Callable[[], float] = time.time,
) -> Swept:
    """Give back what nobody wants.

    Raises:
        BadInput: there is nobody to ask.
        StoreUnusable: the book cannot be read.
    """
    rules, book = rules_of(settings, unknown_s=unknown_s), LeaseBook(settings.state_folder)
    async with AsyncExitStack() as stack:
        found = await _entered(settings, asks, stack)
        return await reap(found, book, rules, clock=clock, ended_max=ended_max)


async def _entered(
    settings: Settings,
    asks: Mapping[str, Provider] | None,
    stack: AsyncExitStack,
    *,
    list_s: float | None = None,
) -> Mapping[str, Provider]:
    found = asks
    if found is None:
        found = await asyncio.to_thread(that_bill, settings, list_s=list_s)
    for provider in found.values():
        await stack.enter_async_context(provider)
    return found
