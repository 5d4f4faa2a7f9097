"""What a run's machines cost: the user's book of them, and what their providers have billed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from nightkiln.core.errors import NightkilnError
from nightkiln.core.model import BatchId, Usd
from nightkiln.core.terms import Load
from nightkiln.dispatch import Booking
from nightkiln.lease_book import LeaseBook
from nightkiln.ports.provider import Charges, Provider
from nightkiln.reconciling import reconcile_charges
from nightkiln.store.lease_history import lease_history
from nightkiln.store.store import Store

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
        batch, root = self.batch, str(self.store.root)
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
