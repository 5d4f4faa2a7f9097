"""What one rental of one stretch costs when everything about it is known.

The arithmetic that all baselines share, so that they can differ in their decisions only.
Floats, not ``Decimal``: a baseline adds up millions of small products that nobody pays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from nightkiln.core.model import Kind
from nightkiln.testing.market.machines import BIT_PER_GB, Boot, Stretch
from nightkiln.testing.market.night import Night

S_PER_HOUR = 3600.0
RENTED_KINDS = (Kind.ON_DEMAND, Kind.INTERRUPTIBLE)


@dataclass(frozen=True, slots=True)
class Bill:
    """USD by what they were for; the parts do not overlap."""

    rendering: float = 0.0  # GPU, from ready to released
    startup: float = 0.0  # GPU, from rented to ready
    storage: float = 0.0  # disk, from rented to released
    traffic_in: float = 0.0  # image and models
    traffic_out: float = 0.0  # results
    failed: float = 0.0  # all of the above, of leases that never rendered
    fallback: float = 0.0

    @property
    def usd(self) -> float:
        return math.fsum(getattr(self, part.name) for part in fields(self))

    def __add__(self, other: Bill) -> Bill:
        return Bill(
            *(getattr(self, part.name) + getattr(other, part.name) for part in fields(self))
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a policy's night went."""

    bill: Bill
    finish_s: float  # all jobs done, after the deadline where it was not met
    is_met: bool
    leases: int  # ever rented, fallback containers not counted
    lost: int  # of those, how many died or never came up

    @property
    def usd(self) -> float:
        return self.bill.usd


@dataclass(frozen=True, slots=True)
class Rental:
    """One stretch, rented at one moment as one kind; the price of that moment holds to its end."""

    stretch: Stretch
    rented_s: float
    usd_per_s: float  # of the GPU
    dies_s: float
    billed_while_loading: float  # share of ``usd_per_s``
    gb_image: float
    gb_models: float
    gb_result: float  # per job

    @property
    def ready_s(self) -> float:
        """When it would render its first job; never, if it does not boot or dies before."""
        ready_s = self.rented_s + self.stretch.startup_s
        return ready_s if self.stretch.boot is Boot.OK and ready_s < self.dies_s else math.inf

    @property
    def usd_storage_per_s(self) -> float:
        return self.stretch.storage_usd_h / S_PER_HOUR

    @property
    def usd_fixed(self) -> float:
        """From rented to ready, once, however many jobs follow."""
        return (
            self._usd_startup(self.stretch.startup_s)
            + self.usd_storage_per_s * self.stretch.startup_s
            + (self.gb_image + self.gb_models) * self.stretch.usd_per_gb_down
        )

    @property
    def usd_per_job(self) -> float:
        per_s = self.usd_per_s + self.usd_storage_per_s
        return per_s * self.stretch.s_per_job + self.gb_result * self.stretch.usd_per_gb_up

    def bill(self, released_s: float, *, delivered_share: float) -> Bill:
        """What it has cost when released, or dead, at ``released_s``.

        ``delivered_share`` of the jobs it rendered were good: only those send a result.
        """
        age_s = released_s - self.rented_s
        startup_s = min(age_s, self.stretch.startup_s)
        startup = self._usd_startup(age_s if self.ready_s == math.inf else startup_s)
        storage = self.usd_storage_per_s * age_s
        traffic_in = self._gb_in(age_s) * self.stretch.usd_per_gb_down
        if released_s <= self.ready_s:
            return Bill(failed=startup + storage + traffic_in)
        rendered_s = released_s - self.ready_s
        jobs = rendered_s / self.stretch.s_per_job * delivered_share
        return Bill(
            rendering=self.usd_per_s * rendered_s,
            startup=startup,
            storage=storage,
            traffic_in=traffic_in,
            traffic_out=jobs * self.gb_result * self.stretch.usd_per_gb_up,
        )

    def _usd_startup(self, age_s: float) -> float:
        """GPU rent for the first ``age_s`` of a machine that does not render yet."""
        loading = self.stretch.boot in (Boot.EARLY, Boot.STUCK_LOADING)
        pull_s = age_s if loading else min(age_s, self.stretch.pull_s)
        return self.usd_per_s * (self.billed_while_loading * pull_s + age_s - pull_s)

    def _gb_in(self, age_s: float) -> float:
        """What has been downloaded: the image evenly over the pull, then the models."""
        pulled_gb = self.gb_image * min(1.0, age_s / self.stretch.pull_s)
        if self.stretch.boot in (Boot.EARLY, Boot.STUCK_LOADING):
            return pulled_gb
        models_s = max(0.0, age_s - self.stretch.pull_s)
        return pulled_gb + min(self.gb_models, models_s * self.stretch.mbps_true / BIT_PER_GB)


def rented(night: Night, stretch: Stretch, kind: Kind, at_s: float) -> Rental:
    """``stretch``, rented at ``at_s``; a bid is the market's usual premium above the least."""
    market = night.market
    return Rental(
        stretch=stretch,
        rented_s=at_s,
        usd_per_s=night.gpu_usd_h(stretch, kind, at_s) / S_PER_HOUR,
        dies_s=night.death_s(stretch, kind, at_s),
        billed_while_loading=market.startup.gpu_billed_while_loading,
        gb_image=night.gb_in(stretch) - market.batch.models_gb,
        gb_models=market.batch.models_gb,
        gb_result=night.gb_out_per_job,
    )
