"""Leases that earlier runs of this batch have left: what is known of them, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from nightkiln.closing import host_of, last_end
from nightkiln.core.errors import ProviderError
from nightkiln.core.events import Known
from nightkiln.core.lease_ids import batch_of, in_full
from nightkiln.core.model import Kind, Lease, LeaseId, Offer
from nightkiln.dispatch.booking import Booking, gone, look_again_s
from nightkiln.dispatch.lease_life import LeaseLife
from nightkiln.dispatch.shell import Shell
from nightkiln.lease_book import Entry, Standing
from nightkiln.ports.provider import Inventory, Provider

OWNED_S_MAX = 60.0  # for a provider to say what is ours: renting there waits for it


@dataclass(frozen=True, slots=True)
class Listed:
    """What a provider says is ours, and what the book says of that."""

    lease_ids: tuple[LeaseId, ...]
    known: tuple[Known, ...] = ()
    again_s: float | None = None  # epoch seconds: somebody may have rented just before


async def listed(shell: Shell, name: str) -> Listed:
    """Ask a provider what is ours; what is not listed any more gets its last row.

    Raises:
        ProviderError: it did not say, or not in time.
    """
    provider = shell.work.providers[name]
    try:
        async with asyncio.timeout(OWNED_S_MAX):
            found = await provider.owned()
    except TimeoutError as error:
        said = f"it did not say in {OWNED_S_MAX:.0f} s what is ours"
        raise ProviderError(said, provider=name) from error
    book = shell.book_of(provider)
    if book is None:
        return Listed(tuple(found))
    every, others = await book.entries()
    mine = [entry for entry in every if entry.provider == name]
    ours = [each for each in found if in_full(each, book.batch) not in others]
    now_s = shell.now_s()
    for entry in gone(mine, ours, book, now_s=now_s):
        await _tell_end(shell, book, entry)
    again_s = look_again_s(mine, book, now_s=now_s)
    return Listed(tuple(ours), _known(shell, mine, ours, book), again_s)


def _known(
    shell: Shell, entries: Sequence[Entry], listed: Sequence[LeaseId], book: Booking
) -> tuple[Known, ...]:
    """What could be gone on with; times are on the scheduler's clock."""
    behind_s = shell.now_s() - shell.time_s()
    whole = {in_full(one, book.batch) for one in listed}
    return tuple(
        Known(one.lease_id, one.offer, one.asked_s - behind_s, one.expires_s - behind_s)
        for one in entries
        if one.lease_id in whole and one.standing is not Standing.ENDED
    )


async def _tell_end(shell: Shell, book: Booking, entry: Entry) -> None:
    """The last row of a lease that is gone, by estimate; then there is nothing more to know."""
    earlier = book.earlier_of(entry.lease_id)
    if entry.ended_s is not None:
        until_s, reason = entry.ended_s, "given back by a run that was ended before it could say so"
    else:
        until_s = await book.counted_until_s(entry, now_s=shell.now_s())
        reason = "its run died, and it is not listed any more; counted until it must have ended"
    end = last_end(entry, earlier, until_s=until_s, reason=reason)
    if not earlier.is_closed:
        await shell.work.lease_log(end)
        fields = {"lease_id": entry.lease_id, "host": host_of(entry), "reason": reason}
        await shell.tell("lease_closed", fields)
    await shell.write_down(book.book.forget, entry.lease_id)


async def left_over(shell: Shell, lease_id: LeaseId, before: LeaseLife | None) -> LeaseLife | None:
    """What is to be given back though no lease of this run is it; None: nobody knows it.

    ``before``: this run's own life of it, which ended without anybody confirming that.
    """
    if before is not None:
        return _again(before)
    life = await _from_book(shell, lease_id)
    return life if life is not None else await _from_inventory(shell, lease_id)


def _again(before: LeaseLife) -> LeaseLife:
    again = LeaseLife(before.id, before.offer, before.rented_s, before.expires_s)
    again.lease, again.ready_s, again.loading_s = before.lease, before.ready_s, before.loading_s
    again.jobs_done, again.attempts_failed = before.jobs_done, before.attempts_failed
    again.busy_s, again.is_written = before.busy_s, before.is_written
    again.is_left_over = again.may_bill = True
    return again


async def _from_book(shell: Shell, lease_id: LeaseId) -> LeaseLife | None:
    book = shell.work.book
    entries, _ = await book.entries() if book is not None else ([], set())
    for entry in entries:
        if entry.lease_id == lease_id and entry.provider in shell.work.providers:
            assert book is not None
            life = adopted(lease_id, entry.offer, entry.asked_s, entry.expires_s, book)
            life.is_adopted, life.is_left_over = False, True
            life.lease = Lease(lease_id, entry.offer, entry.host) if entry.host else None
            return life
    return None


def adopted(
    lease_id: LeaseId, offer: Offer, rented_s: float, expires_s: float, book: Booking | None
) -> LeaseLife:
    """The life of a lease that an earlier run began, with all that it did for it."""
    life = LeaseLife(lease_id, offer, rented_s, expires_s, is_adopted=True, may_bill=True)
    if book is not None:
        life.is_written = True
        earlier = book.earlier_of(lease_id)
        life.jobs_done, life.attempts_failed = earlier.jobs_done, earlier.attempts_failed
        life.busy_s = earlier.busy_s
    return life


async def _from_inventory(shell: Shell, lease_id: LeaseId) -> LeaseLife | None:
    """What a provider itself knows of a lease that nobody wrote down on this computer."""
    for provider in shell.work.providers.values():
        if not isinstance(provider, Inventory):
            continue
        try:
            async with asyncio.timeout(OWNED_S_MAX):
                billed = await provider.billed()
        except (ProviderError, TimeoutError):
            continue
        for one in billed:
            if in_full(one.lease_id, batch_of(lease_id)) == lease_id:
                offer = Offer(
                    provider.name,
                    one.contract,
                    one.gpu,
                    one.usd_per_hour,
                    kind=Kind.ON_DEMAND,
                    machine=one.machine,
                )
                now_s = shell.now_s()
                since_s = one.since_s if one.since_s is not None else now_s
                life = LeaseLife(lease_id, offer, min(since_s, now_s), now_s)
                life.is_left_over = life.may_bill = True
                return life
    return None


async def give_back_unseen(shell: Shell, lease_id: LeaseId) -> None:
    """Of such a lease nobody knows where it is or what it costs; its provider's bill will tell."""

    async def from_one(provider: Provider) -> None:
        releases = shell.releases(provider)
        error = await releases.give_back(lease_id, for_s=shell.work.release_s_max)
        if error is not None:
            await shell.warn(f"{lease_id} may still be billed by {provider.name}: {error}")

    await shell.warn(f"{lease_id} is billed, and nobody wrote it down: it is given back")
    billing = [each for each in shell.work.providers.values() if each.bills]
    await asyncio.gather(*map(from_one, billing))
