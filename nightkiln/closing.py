"""The last rows of leases that nobody is left to write: their runs died, others found them gone."""

from __future__ import annotations

from datetime import UTC, datetime

from nightkiln.core.budget import lease_cost
from nightkiln.core.model import BatchId, Lease, LeaseEnd
from nightkiln.lease_book import Entry
from nightkiln.store.lease_history import Earlier, lease_history
from nightkiln.store.records import write_lease_end
from nightkiln.store.store import Store


def host_of(entry: Entry) -> str:
    """What its machine is called."""
    return entry.host or entry.offer.machine or entry.offer.ref


def last_end(entry: Entry, earlier: Earlier, *, until_s: float, reason: str) -> LeaseEnd:
    """The end of a lease at ``until_s`` (epoch seconds), by estimate: nobody saw how it was used.

    ``earlier``: what its store has of it.
    """
    life_s = max(0.0, until_s - entry.asked_s)
    return LeaseEnd(
        lease=Lease(entry.lease_id, entry.offer, host_of(entry)),
        rented_s=entry.asked_s,
        ready_s=None,
        released_s=max(until_s, entry.asked_s),
        reason=reason,
        jobs_done=earlier.jobs_done,
        attempts_failed=earlier.attempts_failed,
        busy_s=earlier.busy_s,
        cost=lease_cost(entry.offer, entry.load, life_s=life_s, jobs=earlier.jobs_done),
        is_late=True,
    )


def close_lease(store: Store, entry: Entry, *, until_s: float, reason: str) -> bool:
    """Write the last row of a lease into the store of its batch, unless it is there. Blocking.

    For whoever ends leases without being their run; whether there was anything to write.

    Raises:
        StoreUnusable: the store cannot be read or written; the book must not forget the lease.
    """
    earlier = lease_history(store, entry.batch).get(entry.lease_id, Earlier())
    if earlier.is_closed:
        return False
    date = store.batch_date(
        entry.batch, today=f"{datetime.fromtimestamp(entry.asked_s, UTC):%Y-%m-%d}"
    )
    batch = BatchId(entry.batch, entry.epoch, date, "", "", "")
    end = last_end(entry, earlier, until_s=until_s, reason=reason)
    write_lease_end(store.blobs, batch, end)
    return True
