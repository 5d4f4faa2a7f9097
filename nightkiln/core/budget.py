"""Keeps what is spent and what could yet be spent below the budget.

A lease is reserved for its whole life before it is asked for; only ``settle`` replaces the
reservation by the bill. How long it will load (the image, while many providers bill no GPU) nobody
knows beforehand, so all of its life is reserved at the full price; what loading did not cost is
free again once the lease is up and its provider has said how long that took. A start that fails is
counted at the full price, unless there is a bill. A lease that nobody confirms to be released is
never settled: it may run to the end of its life, so its reservation stays.

A lease that lives longer than its reservation (a release takes a while) counts by the clock, which
is the one way in which the total can pass the budget.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal

from nightkiln.core.model import Cost, LeaseId, Offer, Usd
from nightkiln.core.terms import Load

HOUR_S = Decimal(3600)
CENT_PARTS = Decimal("0.000001")  # our own count is rounded up to the millionth of a dollar


def rent_usd(offer: Offer, life_s: float, *, loading_s: float = 0.0) -> Usd:
    """USD for having the machine and its disk for ``life_s`` seconds.

    In ``loading_s`` of them, never more than all, only ``loading_billed`` of the machine is billed.
    """
    per_hour = offer.usd_per_hour + offer.storage_usd_per_hour
    seconds = Decimal(repr(life_s + offer.idle_tail_s))
    spared = Decimal(repr((1.0 - offer.loading_billed) * min(loading_s, life_s)))
    return ((per_hour * seconds - offer.usd_per_hour * spared) / HOUR_S).quantize(
        CENT_PARTS, ROUND_CEILING
    )


def lease_cost(
    offer: Offer, load: Load, *, life_s: float, loading_s: float = 0.0, jobs: int = 0
) -> Cost:
    """What a lease has come to by our own count; adds up to ``rent_usd`` and ``traffic_usd``.

    Parts are rounded so that none is ever counted lower than it is together with the next.
    """
    rent, traffic = rent_usd(offer, life_s, loading_s=loading_s), traffic_usd(offer, load, jobs)
    spared_s = (1.0 - offer.loading_billed) * min(loading_s, life_s)
    gpu_s = life_s + offer.idle_tail_s - spared_s
    gb_in, gb_out = load.image_gb + load.models_gb, load.result_gb * jobs
    gpu = min(rent, _up(offer.usd_per_hour * Decimal(repr(gpu_s)) / HOUR_S))
    traffic_in = min(traffic, _up(offer.usd_per_gb_in * Decimal(repr(gb_in))))
    return Cost(gpu, rent - gpu, traffic_in, traffic - traffic_in, gpu_s, gb_in, gb_out)


def metered_cost(
    offer: Offer, load: Load, *, gpu_s: float, storage_s: float, jobs: int = 0
) -> Cost:
    """What a lease has come to whose provider knows for how long each part was billed.

    An idle window after the last job is in ``gpu_s`` already: the provider has seen it.
    """
    traffic = lease_cost(offer, load, life_s=0.0, jobs=jobs)
    gpu = _up(offer.usd_per_hour * Decimal(repr(gpu_s)) / HOUR_S)
    storage = _up(offer.storage_usd_per_hour * Decimal(repr(storage_s)) / HOUR_S)
    return replace(traffic, gpu=gpu, storage=storage, gpu_s=gpu_s)


def _up(usd: Usd) -> Usd:
    return usd.quantize(CENT_PARTS, ROUND_CEILING)


def traffic_usd(offer: Offer, load: Load, jobs: int) -> Usd:
    """USD for image and models in, and the results of ``jobs`` jobs out."""
    gb_in = Decimal(repr(load.image_gb + load.models_gb))
    gb_out = Decimal(repr(load.result_gb)) * jobs
    return (offer.usd_per_gb_in * gb_in + offer.usd_per_gb_out * gb_out).quantize(
        CENT_PARTS, ROUND_CEILING
    )


@dataclass(slots=True)
class _Reservation:
    offer: Offer
    rented_s: float
    until_s: float
    jobs: int  # whose results the reservation pays for
    loading_s: float = 0.0  # of its life, as far as it is known


class Ledger:
    """Spent, reserved, and what is left. Without a budget it only keeps count."""

    def __init__(self, budget: Usd | None, load: Load) -> None:
        self.budget = budget
        self.spent = Decimal(0)
        self._load = load
        self._bound = Decimal(0)  # what was spent and reserved when the budget was lowered
        self._held: dict[LeaseId, _Reservation] = {}

    def reserved(self, now_s: float) -> Usd:
        """USD that leases not settled yet may still come to, those overdue by the clock."""
        return sum((self._usd(held, now_s) for held in self._held.values()), Decimal(0))

    def left(self, now_s: float) -> Usd | None:
        """USD neither spent nor reserved; None without a budget."""
        if self.budget is None:
            return None
        return self.budget - self.spent - self.reserved(now_s)

    def set_budget(self, usd: Usd, *, now_s: float) -> None:
        """Another budget from now on; what is spent and reserved already stays."""
        self.budget, self._bound = usd, self.spent + self.reserved(now_s)

    def limit(self, now_s: float) -> Usd | None:
        """What this run keeps to: its budget, or what it is bound to, if that is more."""
        if self.budget is None:
            return None
        return max(self.budget, self.spent + self.reserved(now_s))

    def life_s(self, offer: Offer, wanted_s: float, *, jobs: int, now_s: float) -> float:
        """How long ``offer`` can be had for what is left, at most ``wanted_s``; 0: not at all."""
        left = self.left(now_s)
        per_hour = offer.usd_per_hour + offer.storage_usd_per_hour
        if left is None or offer.is_free:
            return wanted_s
        left -= traffic_usd(offer, self._load, jobs) + CENT_PARTS * 2
        affordable_s = float(left / per_hour * HOUR_S) - offer.idle_tail_s
        return max(0.0, min(wanted_s, affordable_s))

    def reserve(
        self, lease_id: LeaseId, offer: Offer, *, now_s: float, until_s: float, jobs: int
    ) -> None:
        """Set money aside before a lease is asked for."""
        assert lease_id not in self._held
        self._held[lease_id] = _Reservation(offer, now_s, until_s, jobs)
        self._check(now_s)

    def extension_s(self, lease_id: LeaseId, wanted_s: float, *, jobs: int, now_s: float) -> float:
        """How many seconds, at most ``wanted_s``, can be added to a lease; and adds them."""
        held = self._held[lease_id]
        left = self.left(now_s)
        if left is not None and not held.offer.is_free:
            per_hour = held.offer.usd_per_hour + held.offer.storage_usd_per_hour
            out = held.offer.usd_per_gb_out * Decimal(repr(self._load.result_gb)) * jobs
            left -= out + CENT_PARTS * 4
            wanted_s = min(wanted_s, float(left / per_hour * HOUR_S))
        if wanted_s <= 0:
            return 0.0
        held.until_s += wanted_s
        held.jobs += jobs
        self._check(now_s)
        return wanted_s

    def came_up(self, lease_id: LeaseId, loading_s: float, *, now_s: float) -> None:
        """A lease is up; its provider says for how long it was only loading, 0: it does not say."""
        held = self._held.get(lease_id)
        if held is not None and loading_s > 0:
            held.loading_s = min(loading_s, max(0.0, now_s - held.rented_s))

    def until_s(self, lease_id: LeaseId) -> float:
        """When the reservation of a lease ends."""
        return self._held[lease_id].until_s

    def settle(self, lease_id: LeaseId, usd: Usd | None, *, now_s: float) -> None:
        """A lease is over: its bill, or what the clock says where there is none, is spent."""
        held = self._held.pop(lease_id, None)
        if held is None:
            return
        self.spent += usd if usd is not None else self._usd_until(held, now_s)

    def _usd(self, held: _Reservation, now_s: float) -> Usd:
        return self._usd_until(held, max(held.until_s, now_s))

    def _usd_until(self, held: _Reservation, until_s: float) -> Usd:
        life_s = max(0.0, until_s - held.rented_s)
        rent = rent_usd(held.offer, life_s, loading_s=held.loading_s)
        return rent + traffic_usd(held.offer, self._load, held.jobs)

    def _check(self, now_s: float) -> None:
        left = self.left(now_s)
        if left is None or left >= 0:
            return
        overdue = any(held.until_s < now_s for held in self._held.values())
        was_bound = self.spent + self.reserved(now_s) <= self._bound
        assert overdue or was_bound, "more reserved than the budget"
