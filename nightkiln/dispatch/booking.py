"""One run's hand in the user's book of leases, so that whoever comes after it knows what it had."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from nightkiln.core.errors import StoreUnusable
from nightkiln.core.lease_ids import in_full
from nightkiln.core.model import LeaseId, Offer
from nightkiln.core.reaping import SEARCH_S, Known, Sign, billed_until_s
from nightkiln.core.terms import Load
from nightkiln.dispatch.giving_back import see_through
from nightkiln.lease_book import ALIVE_EVERY_S, DEADMAN_S, Entry, LeaseBook, Owner, Standing
from nightkiln.store.lease_history import Earlier


@dataclass(frozen=True, slots=True)
class Booking:
    """The book, as one run of a batch writes it. What bills is written down, nothing else."""

    book: LeaseBook
    batch: str
    epoch: int
    store: str
    deadman_s: float = DEADMAN_S
    load: Load = field(default_factory=Load)
    earlier: Mapping[LeaseId, Earlier] = field(default_factory=dict)

    async def intend(
        self, lease_id: LeaseId, offer: Offer, *, asked_s: float, expires_s: float
    ) -> None:
        """Durable before anything is asked for.

        Raises:
            StoreUnusable: it is not, or the name is taken, so nothing may be rented.
        """
        entry = self._entry(lease_id, offer, asked_s, expires_s)
        await asyncio.to_thread(self.book.intend, entry)

    async def take_over(
        self, lease_id: LeaseId, offer: Offer, *, asked_s: float, expires_s: float
    ) -> None:
        """From now on this run is its owner.

        Raises:
            StoreUnusable: it cannot be written down.
        """
        entry = self._entry(lease_id, offer, asked_s, expires_s)
        await asyncio.to_thread(self.book.taken_over, replace(entry, standing=Standing.RENTED))

    def _entry(self, lease_id: LeaseId, offer: Offer, asked_s: float, expires_s: float) -> Entry:
        return Entry(
            lease_id,
            self.batch,
            self.epoch,
            self.store,
            offer,
            asked_s,
            expires_s,
            load=self.load,
        )

    async def is_taken_from_us(self, lease_id: LeaseId) -> bool:
        """Whether a later run of this batch goes on with a lease that was ours.

        Raises:
            StoreUnusable: the book cannot be read.
        """
        entry = await asyncio.to_thread(self.book.entry, lease_id)
        return entry is not None and self.is_ours(entry) and entry.epoch > self.epoch

    def is_ours(self, entry: Entry) -> bool:
        """Whether it is of this very batch, and not of one of the same name in another store."""
        return entry.whose == (self.batch, self.store)

    async def entries(self) -> tuple[list[Entry], set[LeaseId]]:
        """Every lease of this batch that is not forgotten, and those of others of its name."""
        found = await asyncio.to_thread(self.book.entries, self.batch)
        others = {entry.lease_id for entry in found if not self.is_ours(entry)}
        return [entry for entry in found if self.is_ours(entry)], others

    def earlier_of(self, lease_id: LeaseId) -> Earlier:
        """What the store has of it."""
        return self.earlier.get(lease_id, Earlier())

    async def counted_until_s(self, entry: Entry, *, now_s: float) -> float:
        """Until when a lease that is gone may have cost money; never less than it did.

        Its machine ends itself when it expires, or when its run gives no sign for so long.
        """
        owner = await asyncio.to_thread(self.book.owner, entry.batch, entry.epoch, entry.store)
        run = Sign(owner.epoch, owner.alive_s, owner.has_ended) if owner is not None else None
        known = Known(entry.asked_s, entry.expires_s, entry.offer.usd_per_hour, run=run)
        return billed_until_s(known, silence_s=self.deadman_s, now_s=now_s)


def gone(
    entries: Collection[Entry], listed: Collection[LeaseId], run: Booking, *, now_s: float
) -> Iterator[Entry]:
    """Leases of earlier runs that cost nothing any more, by the book or by the provider's list."""
    whole = {in_full(one, run.batch) for one in listed}
    for entry in entries:
        if entry.epoch == run.epoch:
            continue
        is_past = now_s - entry.asked_s > SEARCH_S
        may_turn_up = entry.standing is Standing.INTENDED and not is_past
        if entry.lease_id not in whole and not may_turn_up:
            yield entry


def look_again_s(entries: Collection[Entry], run: Booking, *, now_s: float) -> float | None:
    """When to list once more: somebody asked for a lease just before, and may have got it."""
    times = [
        entry.asked_s + SEARCH_S
        for entry in entries
        if entry.epoch != run.epoch and entry.standing is Standing.INTENDED
    ]
    return min((time_s for time_s in times if time_s >= now_s), default=None)


@asynccontextmanager
async def owning(
    run: Booking, clock: Callable[[], float], warn: Callable[[str], Awaitable[None]]
) -> AsyncIterator[None]:
    """Give signs of life in here, and say at the end that this run holds nothing any more.

    Raises:
        StoreUnusable: not even the first sign could be written, so nothing may be rented.
    """
    await _sign(run, clock)
    signs = asyncio.create_task(_keep_signing(run, clock, warn), name="signs of life")
    try:
        yield
    finally:
        # Whoever cancels us again and again must not leave a run that seems to be alive.
        _, was_cancelled = await see_through(_sign_off(run, clock, warn, signs))
        if was_cancelled:
            raise asyncio.CancelledError


async def _sign_off(
    run: Booking,
    clock: Callable[[], float],
    warn: Callable[[str], Awaitable[None]],
    signs: asyncio.Task[None],
) -> None:
    signs.cancel()
    await asyncio.wait([signs])
    try:
        await _sign(run, clock, has_ended=True)
        await asyncio.to_thread(_tidy, run)
    except StoreUnusable as error:
        await warn(f"that this run has ended is not written down: {error}")


async def _sign(run: Booking, clock: Callable[[], float], *, has_ended: bool = False) -> None:
    owner = Owner(run.batch, run.epoch, run.store, clock(), has_ended)
    await asyncio.to_thread(run.book.alive, owner)


async def _keep_signing(
    run: Booking, clock: Callable[[], float], warn: Callable[[str], Awaitable[None]]
) -> None:
    while True:
        await asyncio.sleep(ALIVE_EVERY_S)
        try:
            await _sign(run, clock)
        except StoreUnusable as error:
            await warn(f"nobody can see that this run is alive: {error}")


def _tidy(run: Booking) -> None:
    """Earlier runs of the batch that hold nothing are of no interest any more."""
    whose = (run.batch, run.store)
    holders = {entry.epoch for entry in run.book.entries(run.batch) if entry.whose == whose}
    for owner in run.book.owners():
        if owner.whose == whose and owner.epoch < run.epoch and owner.epoch not in holders:
            run.book.forget_owner(owner)
