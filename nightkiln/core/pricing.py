"""What a finished job is expected to cost on an offer: the one figure by which offers rank.

Estimates are floats; money that is set aside or spent is ``Decimal`` and lives in ``budget``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import expm1, inf
from typing import Self

from nightkiln.core.learning import Outlook
from nightkiln.core.model import Offer, Usd
from nightkiln.core.terms import Load, Rules

# A start that fails is given up at its limit at the latest; most are dead early or hang where the
# GPU is not billed, so half of a good start is a fair guess of what it costs and of its time.
FAILED_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Price:
    """An offer's expected price. ``usd_per_job`` is what ranks."""

    offer: Offer
    outlook: Outlook
    jobs: float  # expected to be finished there in time
    usd_per_job: float
    rank: float  # equal to ``usd_per_job`` but for ablations


@dataclass(frozen=True, slots=True)
class Quoter:
    """Prices offers under one set of rules."""

    load: Load
    rules: Rules

    def price(
        self, offer: Offer, outlook: Outlook, *, left_s: float, shortfall: float
    ) -> Price | None:
        """The expected USD per job of renting ``offer`` now; None if nothing would be done.

        ``left_s`` is the time until everything should be done, ``shortfall`` the jobs nobody
        else would do. Start-up and traffic in are shared by the jobs that the lease lives to
        do: it may be lost before the work is done, and it may not come up at all.
        """
        run_s = min(left_s - outlook.startup_s, shortfall * outlook.seconds_per_job)
        if run_s <= 0:
            return None
        jobs = expected_alive_s(outlook.feared_per_s, run_s) / outlook.seconds_per_job
        per_job = running_usd_per_job(offer, outlook.seconds_per_job, self.load)
        usd = (self._start_usd(offer, outlook) if self.rules.counts_start else 0.0) / jobs + per_job
        rank = float(offer.usd_per_hour) if self.rules.ranks_by_hour else usd
        return Price(offer, outlook, jobs, usd, rank)

    def _start_usd(self, offer: Offer, outlook: Outlook) -> float:
        """Expected USD before the first job, failed starts included."""
        good = start_cost(offer, outlook, self.load).usd
        return good + FAILED_SHARE * good * failed_per_start(outlook)


@dataclass(frozen=True, slots=True)
class StartCost:
    """USD of one start that comes up."""

    gpu: float
    storage: float
    traffic: float  # image and models in
    tail: float  # billed after the last job, which there is once for every start

    @property
    def usd(self) -> float:
        return self.gpu + self.storage + self.traffic + self.tail


def start_cost(offer: Offer, outlook: Outlook, load: Load) -> StartCost:
    """What a start costs that comes up, in parts."""
    gpu, disk = _per_s(offer.usd_per_hour), _per_s(offer.storage_usd_per_hour)
    loading_s = outlook.loading_s
    billed_s = loading_s * offer.loading_billed + outlook.startup_s - loading_s
    return StartCost(
        gpu=gpu * billed_s,
        storage=disk * outlook.startup_s,
        traffic=float(offer.usd_per_gb_in) * (load.image_gb + load.models_gb),
        tail=gpu * offer.idle_tail_s,
    )


def failed_per_start(outlook: Outlook) -> float:
    """Starts that fail for one that comes up."""
    return outlook.boot_fails / (1 - outlook.boot_fails)


def running_usd_per_job(offer: Offer, seconds_per_job: float, load: Load) -> float:
    """USD for one more job on a machine that is up: what a lease is compared by once it runs."""
    per_s = _per_s(offer.usd_per_hour) + _per_s(offer.storage_usd_per_hour)
    return per_s * seconds_per_job + float(offer.usd_per_gb_out) * load.result_gb


def expected_alive_s(lost_per_s: float, run_s: float) -> float:
    """Mean time until loss or ``run_s``, whichever is first (exponential)."""
    if lost_per_s == 0:
        return run_s
    if run_s == inf:
        return 1 / lost_per_s
    return min(run_s, -expm1(-lost_per_s * run_s) / lost_per_s)


def startup_limit_s(outlook: Outlook, rules: Rules, *, left_s: float) -> float:
    """How long a start may take before it is given up, learned from how long starts take.

    A near deadline makes us impatient, but not so much that no start could ever succeed: each
    that is given up is paid for, and the next one has less time still.
    """
    usual_s = min(rules.boot_factor * outlook.startup_s + rules.boot_extra_s, rules.boot_s_max)
    pressed_s = max(rules.boot_share_max * left_s, rules.boot_factor_min * outlook.startup_s)
    return max(1.0, min(usual_s, pressed_s))


def _per_s(usd_per_hour: Usd) -> float:
    return float(usd_per_hour) / 3600


@dataclass(frozen=True, slots=True)
class Parts:
    """USD by what they are for, each a field of a subclass; they add up."""

    def __add__(self, other: Self) -> Self:
        return type(self)(*(self[one.name] + other[one.name] for one in fields(self)))

    def __getitem__(self, name: str) -> float:
        usd: float = getattr(self, name)
        return usd

    @property
    def usd(self) -> float:
        return sum(self[one.name] for one in fields(self))
