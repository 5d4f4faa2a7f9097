"""What a store already knows of leases: tries that were committed, rows, bills."""

from __future__ import annotations

from dataclasses import dataclass

from nightkiln.core.model import LeaseId, Usd
from nightkiln.store.sql_files import sql_file
from nightkiln.store.store import Store

UNRECONCILED_MAX = 10_000  # leases whose bills are read at once


@dataclass(frozen=True, slots=True)
class Earlier:
    """What the store already has of a lease."""

    jobs_done: int = 0
    attempts_failed: int = 0
    busy_s: float = 0.0
    is_closed: bool = False  # its last row is there


@dataclass(frozen=True, slots=True)
class Unreconciled:
    """A lease whose provider's bill may not be whole yet."""

    date: str  # of its batch
    rented_s: float  # epoch seconds
    released_s: float | None  # None: as far as anybody confirmed
    usd_billed: Usd | None  # as read last; None: never


def lease_history(store: Store, batch: str) -> dict[LeaseId, Earlier]:
    """What the store has of the leases of a batch."""
    with store.connect("attempts") as con:
        rows = con.execute(sql_file("lease_history"), {"batch": batch}).fetchall()
    return {LeaseId(lease_id): Earlier(*facts) for lease_id, *facts in rows}


def unreconciled(
    store: Store, provider: str, *, batch: str | None, since_s: float
) -> dict[LeaseId, Unreconciled]:
    """Leases rented after ``since_s`` (epoch seconds) whose bill is to be read (again)."""
    asked = {
        "provider": provider,
        "batch": batch,
        "since_s": since_s,
        "most": UNRECONCILED_MAX,
    }
    with store.connect("leases") as con:
        rows = con.execute(sql_file("to_reconcile"), asked).fetchall()
    return {LeaseId(lease_id): Unreconciled(*facts) for lease_id, *facts in rows}
