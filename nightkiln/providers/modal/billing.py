"""What the service has billed, shared out among leases as their own count says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal

from nightkiln.core.model import LeaseId, Usd
from nightkiln.ports.provider import Charge
from nightkiln.providers.modal.facts import Item
from nightkiln.providers.modal.meter import HOUR_S

CENT_PARTS = Decimal("0.000001")
NONE = Decimal(0)


def full_hours(since_s: float, now_s: float) -> tuple[datetime, datetime]:
    """The hours that a report can tell of: full ones, in UTC."""
    start, end = int(since_s // HOUR_S), int(now_s // HOUR_S)
    return tuple(datetime.fromtimestamp(hour * HOUR_S, UTC) for hour in (start, end))  # type: ignore[return-value]


def charges_of(
    items: Iterable[Item], usage: Mapping[LeaseId, Mapping[int, Usd]], *, app: str
) -> list[Charge]:
    """Each hour's bill for the app, by the share that each lease has of that hour's count.

    The report knows apps and hours, not leases. An hour of which no lease says anything was for
    somebody else.
    """
    hours: dict[int, Usd] = {}
    for item in items:
        if item.description == app:
            hour = int(item.hour_s // HOUR_S)
            hours[hour] = hours.get(hour, NONE) + item.usd
    found: dict[LeaseId, Usd] = {}
    for hour, usd in hours.items():
        counted = {lease: one[hour] for lease, one in usage.items() if one.get(hour, NONE) > 0}
        whole = sum(counted.values(), NONE)
        for lease, own in counted.items():
            found[lease] = found.get(lease, NONE) + usd * own / whole
    return [
        Charge(lease, gpu=usd.quantize(CENT_PARTS), storage=NONE, traffic_in=NONE, traffic_out=NONE)
        for lease, usd in found.items()
    ]
