"""A sweep as the settings want it; the same for the command line and for the flow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial

from nightkiln.closing import close_lease
from nightkiln.core.errors import NightkilnError, StoreUnusable
from nightkiln.core.reaping import UNKNOWN_S, ReapRules
from nightkiln.lease_book import Entry
from nightkiln.places import plugged_in, that_bill
from nightkiln.ports.provider import Charges, Provider
from nightkiln.reap import ENDED_MAX, Swept, reap
from nightkiln.reconciling import reconcile_charges
from nightkiln.settings import Settings
from nightkiln.sighting import Sight, look, look_at_book
from nightkiln.store.store import Store
from nightkiln.wiring import book_of, has_store, open_store

LOOK_S_MAX = 10.0  # for a service to list what is ours, while somebody waits for it
BILLS_S_MAX = 60.0  # for a service to say what it has billed
FAILING_S_MAX = 60.0  # that a store which fails may hold up one sweep


def can_sweep(settings: Settings) -> bool:
    """Whether there is anybody to ask."""
    is_set_up = settings.vast_api_key is not None or settings.has_modal
    return is_set_up or bool(plugged_in(settings))


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
    rules, book = rules_of(settings, unknown_s=unknown_s), book_of(settings)
    async with AsyncExitStack() as stack:
        found: Mapping[str, Provider] = {}
        if not is_offline:
            found = await _entered(settings, asks, stack, list_s=LOOK_S_MAX)
        if not found and not is_needed:
            return await asyncio.to_thread(look_at_book, book)
        return await look(found, book, rules, now_s=clock())


async def swept(
    settings: Settings,
    *,
    unknown_s: float = UNKNOWN_S,
    ended_max: int = ENDED_MAX,
    asks: Mapping[str, Provider] | None = None,
    clock: Callable[[], float] = time.time,
) -> Swept:
    """Give back what nobody wants, keep the records of it, and read the bills that are due.

    Raises:
        BadInput: there is nobody to ask.
        StoreUnusable: the book cannot be read.
    """
    rules, book = rules_of(settings, unknown_s=unknown_s), book_of(settings)
    async with AsyncExitStack() as stack:
        found = await _entered(settings, asks, stack)
        close = Closing(partial(_write_end, settings))
        done = await reap(found, book, rules, clock=clock, close=close, ended_max=ended_max)
        stores = {owner.store for owner in await asyncio.to_thread(book.owners)}
        stores |= {each.entry.store for each in done.sight.findings if each.entry is not None}
        bills = _read_bills(found, settings, stores, clock)
        return replace(done, warnings=(*done.warnings, *[said async for said in bills]))


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


class Closing:
    """Writes the last rows of leases into the stores of their batches.

    A store that nobody reaches is waited for once, not once for each lease: the next sweep would
    not begin before this one has ended, and machines would be billed meanwhile.
    """

    def __init__(
        self,
        write: Callable[[Entry, float, str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._clock = clock
        self._failing_s: dict[str, float] = {}  # that each store has taken to fail

    async def __call__(self, entry: Entry, until_s: float, why: str) -> None:
        """Write one.

        Raises:
            StoreUnusable: the store is not there, cannot be written, or has failed for so long.
        """
        failing_s = self._failing_s.get(entry.store, 0.0)
        if failing_s > FAILING_S_MAX:
            raise StoreUnusable(f"{entry.store} did not answer before; the next sweep tries again")
        began_s = self._clock()
        try:
            await asyncio.to_thread(self._write, entry, until_s, why)
        except StoreUnusable:
            self._failing_s[entry.store] = failing_s + self._clock() - began_s
            raise


def _write_end(settings: Settings, entry: Entry, until_s: float, why: str) -> None:
    store = _store_at(settings, entry.store)
    if store is None:
        raise StoreUnusable(f"there is no store at {entry.store}")
    close_lease(store, entry, until_s=until_s, reason=why)
    store.refresh_views()


def _store_at(settings: Settings, place: str) -> Store | None:
    """A store that is there already."""
    there = settings.model_copy(update={"store": place})
    return open_store(there) if has_store(there) else None


async def _read_bills(
    found: Mapping[str, Provider],
    settings: Settings,
    stores: Iterable[str],
    clock: Callable[[], float],
) -> AsyncIterator[str]:
    """Hold what was counted against what was billed; what went wrong is only told."""
    for place in sorted({settings.store, *stores}):
        try:
            store = await asyncio.to_thread(_store_at, settings, place)
            for name, provider in found.items():
                if store is None or not isinstance(provider, Charges):
                    continue
                async with asyncio.timeout(BILLS_S_MAX):
                    read = await reconcile_charges(store, name, provider, now_s=clock())
                if read.billed:
                    await asyncio.to_thread(store.refresh_views)
        except TimeoutError:
            yield f"{place}: no bill was read in {BILLS_S_MAX:.0f} s; the next sweep tries again"
        except NightkilnError as error:
            yield f"{place}: no bill was read: {error}"
