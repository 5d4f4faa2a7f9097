"""What a run's machines cost: the user's book of them, and what their providers have billed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from nightkiln.closing import close_lease
from nightkiln.core.errors import NightkilnError, ProviderError
from nightkiln.core.model import BatchId, Usd
from nightkiln.core.terms import Load
from nightkiln.dispatch import Booking
from nightkiln.lease_book import LeaseBook
from nightkiln.ports.provider import Charges, Provider
from nightkiln.reconciling import reconcile_charges
from nightkiln.store.lease_history import lease_history
from nightkiln.store.store import Store

RELEASES_S_MAX = 60.0  # for what an earlier run has left where this one rents nothing
NOT_USED = "its run died, and the one that went on rents nothing there"
BILLS_S_MAX = 20.0  # for a provider to say what it has billed, at the end of a run


@dataclass(frozen=True, slots=True)
class Accounts:
    """One run's."""

    store: Store
    batch: BatchId
    providers: Mapping[str, Provider]
    clock: Callable[[], float]
    book: LeaseBook | None  # None: nothing is written down
    deadman_s: float  # a machine that hears nothing of its run for so long ends itself

    async def booking(self, load: Load) -> Booking | None:
        """This run's hand in the book, which sends ``load`` over the wire; None: nothing bills.

        Raises:
            StoreUnusable: the book or the store cannot be read.
        """
        if self.book is None or not any(each.bills for each in self.providers.values()):
            return None
        batch, root = self.batch, self.store.uri
        booking = Booking(self.book, batch.batch, batch.epoch, root, self.deadman_s, load)
        entries, _ = await booking.entries()
        if not entries:
            return booking
        earlier = await asyncio.to_thread(lease_history, self.store, batch.batch)
        return replace(booking, earlier=earlier)

    async def hold_leases(self) -> bool:
        """Whether an earlier run of this batch has left something that may be billed."""
        booking = await self.booking(Load())
        entries, _ = await booking.entries() if booking is not None else ([], set())
        return any(entry.provider in self.providers for entry in entries)

    async def end_past(
        self, past: Mapping[str, Provider], warn: Callable[[str], Awaitable[None]]
    ) -> None:
        """Give back what earlier runs of the batch have left where this one rents nothing.

        ``warn`` hears where that was not confirmed: then it stays in the book, for the reaper.

        Raises:
            StoreUnusable: the book or the store cannot be used.
        """
        if self.book is None or not past:
            return
        run = Booking(self.book, self.batch.batch, self.batch.epoch, self.store.uri, self.deadman_s)
        entries, _ = await run.entries()
        for name, provider in past.items():
            mine = [each for each in entries if each.provider == name]
            try:
                async with asyncio.timeout(RELEASES_S_MAX), provider:
                    await provider.release([each.lease_id for each in mine])
            except (ProviderError, TimeoutError) as error:
                said = f"{len(mine)} leases of the run before may still be billed by {name}"
                await warn(f"{said}; nightkiln reap ends them: {error or 'no answer'}")
                continue
            for each in mine:
                until_s = await run.counted_until_s(each, now_s=self.clock())
                await asyncio.to_thread(
                    close_lease, self.store, each, until_s=until_s, reason=NOT_USED
                )
                await asyncio.to_thread(self.book.forget, each.lease_id)

    async def read_bills(self, warn: Callable[[str], Awaitable[None]]) -> Usd | None:
        """What providers have billed for this batch, as far as it was read now; None: nobody says.

        ``warn`` hears who did not answer: that ends no run, and may be read later.
        """
        usd: Usd | None = None
        for name, provider in self.providers.items():
            if not isinstance(provider, Charges):
                continue
            try:
                async with asyncio.timeout(BILLS_S_MAX):
                    read = await reconcile_charges(
                        self.store, name, provider, now_s=self.clock(), batch=self.batch.batch
                    )
            except (NightkilnError, TimeoutError) as error:
                await warn(f"what {name} has billed is not known yet: {error or 'no answer'}")
            else:
                usd = (usd if usd is not None else Usd(0)) + read.usd_billed
        return usd
