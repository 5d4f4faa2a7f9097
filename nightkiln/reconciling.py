"""Holds our own count against the bills of providers: reads them, and adds them to the store."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, replace
from decimal import Decimal

from nightkiln.core.lease_ids import batch_of, in_full
from nightkiln.core.model import LeaseId, Usd
from nightkiln.ports.provider import Charge, Charges
from nightkiln.store.charges import write_charge
from nightkiln.store.lease_history import Unreconciled, unreconciled
from nightkiln.store.records import money
from nightkiln.store.store import Store

WHOLE_AFTER_S = (
    3600.0  # after its release a lease's bill grows no more; the view leases says so, too
)
AGE_S_MAX = 30 * 86400.0  # leases older than that are as billed as they ever will be
CHARGE_USD_MAX = Decimal(100_000)  # for one lease: more is a mistake of somebody's


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What a reading brought."""

    leases: int  # whose bill was to be read
    billed: int  # of them, those that the provider has billed
    usd_billed: Usd  # for these, together


async def reconcile_charges(
    store: Store, name: str, charges: Charges, *, now_s: float, batch: str | None = None
) -> Reconciled:
    """Read the bills of a provider's leases, of one batch or of all, and add what is new.

    ``name`` is the provider's; ``now_s`` epoch seconds. May be repeated at any time: only leases
    of this store are looked at, and a bill that says what it said before is not added again. Who
    keeps ``nightkiln.duckdb`` up to date has to call ``Store.refresh_views`` afterwards.

    Raises:
        ProviderError: the provider did not say.
        StoreUnusable: the store cannot be read or written.
    """
    since_s = now_s - AGE_S_MAX
    wanted = await asyncio.to_thread(unreconciled, store, name, batch=batch, since_s=since_s)
    if not wanted:
        return Reconciled(0, 0, Decimal(0))
    first_s = min(lease.rented_s for lease in wanted.values())
    found: dict[LeaseId, Charge] = {}
    for charge in await charges.charges(since_s=first_s):
        lease_id = _lease_of(charge, wanted)
        if lease_id is not None and _is_sane(charge):
            found[lease_id] = replace(charge, lease_id=lease_id)
    news = {each: found[each] for each in found if _is_news(found[each], wanted[each], now_s)}
    await asyncio.to_thread(_append, store, name, news, wanted, now_s)
    usd = sum((charge.usd for charge in found.values()), Decimal(0))
    return Reconciled(len(wanted), len(found), usd)


def _append(
    store: Store,
    name: str,
    found: dict[LeaseId, Charge],
    wanted: dict[LeaseId, Unreconciled],
    now_s: float,
) -> None:
    for lease_id, charge in found.items():
        date = wanted[lease_id].date
        write_charge(store.blobs, charge, provider=name, date=date, read_s=now_s)


def _lease_of(charge: Charge, wanted: Collection[LeaseId]) -> LeaseId | None:
    """Whose bill it is; a label may have been too short for the whole name."""
    if charge.lease_id in wanted or "~" not in charge.lease_id:
        return charge.lease_id if charge.lease_id in wanted else None
    batches = {batch_of(lease_id) for lease_id in wanted}
    named = (in_full(charge.lease_id, batch) for batch in sorted(batches))
    return next((each for each in named if each in wanted), None)


def _is_news(charge: Charge, before: Unreconciled, now_s: float) -> bool:
    """Whether it says more than the last reading, if only that it is the last."""
    is_last = before.released_s is not None and now_s >= before.released_s + WHOLE_AFTER_S
    return is_last or before.usd_billed != money(charge.usd)


def _is_sane(charge: Charge) -> bool:
    """Whether a bill can be one: what a service says is not trusted further than that."""
    parts = (charge.gpu, charge.storage, charge.traffic_in, charge.traffic_out, charge.other)
    return all(part.is_finite() and abs(part) <= CHARGE_USD_MAX for part in parts)
