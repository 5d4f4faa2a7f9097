"""What the service bills now, and what it has billed, by lease. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from nightkiln.core.model import LeaseId, Usd
from nightkiln.ports.provider import Billed, Charge
from nightkiln.providers.vast.labels import read_label
from nightkiln.providers.vast.rows import Row
from nightkiln.providers.vast.values import text, usd

DAY_S = 86_400
ITEMS_MAX = 1_000  # of one row
PARTS = {"gpu": "gpu", "disk": "storage", "bwd": "traffic_in", "bwu": "traffic_out"}
ZERO = Decimal(0)


@dataclass(slots=True)
class _Sum:
    gpu: Usd = ZERO
    storage: Usd = ZERO
    traffic_in: Usd = ZERO
    traffic_out: Usd = ZERO
    other: Usd = ZERO

    def add(self, row: dict[str, Any]) -> None:
        """Add a row's items by kind; what they leave of its amount goes to ``other``.

        Each item is rounded for itself, so that they may also be a little more than the amount.
        """
        items = row.get("items")
        told = ZERO
        for item in items[:ITEMS_MAX] if isinstance(items, list) else ():
            amount = usd(item.get("amount")) if isinstance(item, dict) else None
            if amount is not None:
                part = PARTS.get(text(item.get("type")), "other")
                setattr(self, part, getattr(self, part) + amount)
                told += amount
        amount = usd(row.get("amount"))
        if amount is not None and amount > told:
            self.other += amount - told


def charges_of(rows: Iterable[Any], lease_of: Callable[[str], LeaseId | None]) -> list[Charge]:
    """The rows of one or more days, added up by lease; rows of nobody of ours are left out."""
    sums: dict[LeaseId, _Sum] = {}
    for row in rows:
        about = row.get("metadata") if isinstance(row, dict) else None
        lease_id = lease_of(text(about.get("label"))) if isinstance(about, dict) else None
        if lease_id is not None:
            sums.setdefault(lease_id, _Sum()).add(row)
    return [
        Charge(lease_id, one.gpu, one.storage, one.traffic_in, one.traffic_out, one.other)
        for lease_id, one in sums.items()
    ]


def days_around(since_s: float, now_s: float) -> tuple[int, int]:
    """From the beginning of the first day to the end of the last: bills are made by UTC day."""
    first = int(since_s // DAY_S)
    last = max(first, int(now_s // DAY_S))
    return first * DAY_S, (last + 1) * DAY_S - 1


def billed_of(row: Row, lease_id: LeaseId | None) -> Billed | None:
    """One machine as something that is billed; None: it is none of ours."""
    found = read_label(row.label)
    if found is None:
        return None
    return Billed(
        lease_id=lease_id if lease_id is not None else found[1],
        fleet=found[0],
        contract=str(row.contract),
        usd_per_hour=row.usd_per_hour if row.usd_per_hour is not None else Decimal(0),
        since_s=row.since_s,
        status=row.status or "created",
        gpu=row.gpu or "unknown",
        machine=row.machine,
    )
