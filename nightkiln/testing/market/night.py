"""One seeded night: every truth that a policy may meet, the same whoever asks first."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from nightkiln.core.model import Fault, Kind
from nightkiln.testing.market.dice import between, exponential, lognormal, throw
from nightkiln.testing.market.machines import HOUR_S, Boot, Machine, Stretch, machines, stretches
from nightkiln.testing.market.params import Market

HORIZON_DEADLINES = 3.0  # a night is drawn for three times its deadline (economics of the model)
HANG_COSTS_JOBS = 5.0  # seconds per job that a hang takes from a lump: a sound time limit
MB_PER_GB = 1000.0


class Ending(Enum):
    """What becomes of an attempt, and the kind under which a worker reports it."""

    DONE = ""
    EXCEPTION = "exception"
    OUT_OF_MEMORY = "oom"
    DAMAGED = "damaged"
    HANG = "hang"


@dataclass(frozen=True, slots=True)
class AttemptTruth:
    """What one attempt will be, if the machine lives."""

    seconds: float  # of GPU time until it ends; of a hang, never
    ending: Ending

    @property
    def hangs(self) -> bool:
        return self.ending is Ending.HANG

    @property
    def fails(self) -> bool:
        """Whether it ends, and not well."""
        return self.ending is not Ending.DONE and not self.hangs

    @property
    def kind(self) -> str:
        return self.ending.value

    @property
    def fault(self) -> Fault:
        """As an honest worker would tell it: a node's exception could be anybody's."""
        return Fault.UNKNOWN if self.ending is Ending.EXCEPTION else Fault.MACHINE


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time; its end is outside."""

    from_s: float
    to_s: float

    def __contains__(self, t_s: float) -> bool:
        return self.from_s <= t_s < self.to_s


@dataclass(frozen=True, slots=True)
class RegionOutage:
    """One region is dark: its leases die, and nothing there is listed."""

    region: str
    window: Window


class Night:
    """All draws of one night. Pure: asking changes nothing.

    ``horizon_s``: stretches that begin before it are drawn; ``deadline_s`` (default: a third
    of it) places what the market file places by the deadline. ``fleet_seed`` (default: ``seed``)
    draws the machines themselves, so that several nights can meet the same ones again.
    """

    def __init__(
        self,
        market: Market,
        *,
        seed: int,
        horizon_s: float,
        deadline_s: float | None = None,
        fleet_seed: int | None = None,
    ) -> None:
        assert horizon_s > 0
        self.market, self.seed, self.horizon_s = market, seed, horizon_s
        self.deadline_s = deadline_s if deadline_s is not None else horizon_s / HORIZON_DEADLINES
        self._seed = f"night-1/{seed}"
        fleet = fleet_seed if fleet_seed is not None else seed
        self.machines: tuple[Machine, ...] = tuple(machines(market, f"fleet-1/{fleet}"))
        self.outage = self._outage()
        self.api_outage = self._api_window("outage")
        self.api_storm = self._api_window("storm")
        found = [part for machine in self.machines for part in self._listings(machine)]
        self.stretches: tuple[Stretch, ...] = tuple(
            sorted(found, key=lambda one: (one.listed_s, one.ref))
        )

    # Who is listed, and for how much.

    def listed(self, t_s: float) -> list[Stretch]:
        """What is on the market at ``t_s``."""
        return [one for one in self.stretches if one.listed_s <= t_s < one.gone_s]

    def price_mult(self, t_s: float) -> float:
        """What a price spike makes of prices listed at ``t_s``."""
        spike = self._spike()
        return self.market.price.spike_price_mult if spike is not None and t_s in spike else 1.0

    def gpu_usd_h(self, stretch: Stretch, kind: Kind, rented_s: float) -> float:
        """The price of the GPU for a lease that begins at ``rented_s``; fixed for its life.

        We bid a premium above the minimum, and never above the price on demand.
        """
        assert kind in {Kind.ON_DEMAND, Kind.INTERRUPTIBLE}
        usd_h = stretch.on_demand_usd_h
        if kind is Kind.INTERRUPTIBLE:
            usd_h = min(usd_h, stretch.min_bid_usd_h * self.market.price.bid_premium)
        return usd_h * self.price_mult(rented_s)

    def gb_in(self, stretch: Stretch) -> float:
        """Traffic of a start that comes up."""
        batch = self.market.batch
        return batch.models_gb + (0.0 if stretch.is_cached else batch.image_gb)

    @property
    def gb_out_per_job(self) -> float:
        return self.market.batch.result_mb / MB_PER_GB

    @property
    def is_steady(self) -> bool:
        """Whether prices and hazards are the same all night, so that early is never worse."""
        return self._spike() is None and self.outage is None

    # How leases end.

    def death_s(self, stretch: Stretch, kind: Kind, rented_s: float) -> float:
        """When a lease that begins at ``rented_s`` is lost; infinite if never."""
        hazard = self.market.hazard
        rate = hazard.od_bad_per_h if stretch.is_bad_host else hazard.od_good_per_h
        death_s = rented_s + _wait_s(stretch.death_on_demand, rate)
        if kind is Kind.INTERRUPTIBLE:
            death_s = min(death_s, self._outbid_s(stretch.death_interruptible, rented_s))
        if self.outage is not None and self.outage.region == stretch.region:
            window = self.outage.window
            if rented_s < window.to_s:
                death_s = min(death_s, max(rented_s, window.from_s))
        return death_s

    def _outbid_s(self, threshold: float, rented_s: float) -> float:
        """When the hazard of being outbid, higher inside a spike, adds up to ``threshold``."""
        rate, now_s, left = self.market.hazard.outbid_per_h, rented_s, threshold
        for end_s, factor in self._outbid_steps():
            if now_s < end_s:
                used = rate * factor * (end_s - now_s) / HOUR_S
                if used >= left:
                    return now_s + _wait_s(left, rate * factor)
                now_s, left = end_s, left - used
        return now_s + _wait_s(left, rate)

    def _outbid_steps(self) -> Iterator[tuple[float, float]]:
        """(end, factor) of the times before the ordinary rate holds for good."""
        spike = self._spike()
        if spike is not None:
            yield spike.from_s, 1.0
            yield spike.to_s, self.market.price.spike_outbid_mult

    def offline(self, stretch: Stretch, rented_s: float) -> Window | None:
        """When the machine is out of reach for a while and comes back; None: never."""
        rules = self.market.offline
        if rules.per_h <= 0:
            return None
        when, how_long, *_ = throw(f"{self._seed}/{stretch.ref}/offline")
        from_s = rented_s + _wait_s(exponential(when), rules.per_h)
        return Window(from_s, from_s + rules.mean_s * exponential(how_long))

    # How attempts end.

    def attempt(
        self, where: Stretch | str, job_id: str, attempt_number: int = 0, *, lump: int = 1
    ) -> AttemptTruth:
        """What becomes of a job on a machine, or on the fallback's container of that name.

        ``attempt_number`` counts this job's tries there. With ``lump`` > 1 the job stands for so
        many: its time is their sum, in which retries and hangs are an average, so that a lump
        fails only by what is wrong with the job itself.
        """
        batch = self.market.batch
        ref = where if isinstance(where, str) else where.ref
        s_per_job = self.container_s_per_job(ref) if isinstance(where, str) else where.s_per_job
        time, fails, hangs, damaged, *_ = throw(f"{self._seed}/{ref}/{job_id}/{attempt_number}")
        sigma = batch.job_sigma / lump**0.5
        seconds = lump * s_per_job * lognormal(time, sigma) / _lognormal_mean(sigma)
        ending = self.troubles_of(job_id, None if isinstance(where, str) else where.vram_gb)
        if ending is None and lump > 1:
            waste = batch.job_fail_share + HANG_COSTS_JOBS * batch.hang_share
            return AttemptTruth(seconds * (1 + waste), Ending.DONE)
        if ending is None and hangs < batch.hang_share:
            ending = Ending.HANG
        if ending is None and fails < batch.job_fail_share:
            ending = Ending.EXCEPTION
        if ending is None and damaged < self.market.jobs.corrupt_share:
            ending = Ending.DAMAGED
        return AttemptTruth(seconds, ending if ending is not None else Ending.DONE)

    def troubles_of(self, job_id: str, vram_gb: float | None) -> Ending | None:
        """How a job fails that is itself to blame, on a card of that size (None: the fallback)."""
        jobs = self.market.jobs
        if jobs.poison_share <= 0 and jobs.hungry_share <= 0:
            return None
        poison, hungry, *_ = throw(f"{self._seed}/job/{job_id}")
        if poison < jobs.poison_share:
            return Ending.EXCEPTION
        is_small = vram_gb is not None and vram_gb < jobs.hungry_needs_gb
        return Ending.OUT_OF_MEMORY if is_small and hungry < jobs.hungry_share else None

    def container_s_per_job(self, container: str) -> float:
        """The true pace of the fallback's container of that name."""
        luck, *_ = throw(f"{self._seed}/{container}/speed")
        fallback = self.market.fallback
        return fallback.seconds_per_job * lognormal(luck, fallback.sigma)

    # Drawing.

    def _listings(self, machine: Machine) -> Iterator[Stretch]:
        """The machine's stretches; a region that is dark lists nothing."""
        for stretch in stretches(self.market, machine, self._seed, horizon_s=self.horizon_s):
            if self.outage is None or self.outage.region != machine.region:
                yield stretch
                continue
            dark = self.outage.window
            if stretch.listed_s < dark.from_s:
                yield replace(stretch, gone_s=min(stretch.gone_s, dark.from_s))
            elif stretch.gone_s > dark.to_s:
                yield replace(stretch, listed_s=max(stretch.listed_s, dark.to_s))

    def _outage(self) -> RegionOutage | None:
        """A start above 1 cannot be a share of the deadline and is taken as hours."""
        regions = self.market.regions
        happens, when, *_ = throw(f"{self._seed}/outage")
        if happens >= regions.outage_chance or regions.outage_hours <= 0:
            return None
        if regions.outage_from_h > 1:
            from_s = regions.outage_from_h * HOUR_S
        else:
            from_s = between(when, regions.outage_from_h, 1.0) * self.deadline_s
        window = Window(from_s, from_s + regions.outage_hours * HOUR_S)
        return RegionOutage(regions.names[regions.outage_region], window)

    def _api_window(self, what: str) -> Window | None:
        """When the market's own service is away, or refuses with 429."""
        api = self.market.api
        chance, length_s = (
            (api.outage_chance, api.outage_s)
            if what == "outage"
            else (api.storm_chance, api.storm_s)
        )
        happens, when, *_ = throw(f"{self._seed}/api/{what}")
        if happens >= chance or length_s <= 0:
            return None
        from_s = between(when, 0.0, self.deadline_s)
        return Window(from_s, from_s + length_s)

    def _spike(self) -> Window | None:
        price = self.market.price
        if price.spike_from_h < 0:
            return None
        return Window(price.spike_from_h * HOUR_S, price.spike_to_h * HOUR_S)


def _wait_s(threshold: float, rate_per_h: float) -> float:
    """How long a constant hazard takes to add up to ``threshold``."""
    return threshold * HOUR_S / rate_per_h if rate_per_h > 0 else float("inf")


def _lognormal_mean(sigma: float) -> float:
    """The mean of ``lognormal``, so that a job's time is right on average."""
    return math.exp(sigma * sigma / 2)


__all__ = [
    "AttemptTruth",
    "Boot",
    "Ending",
    "Machine",
    "Night",
    "RegionOutage",
    "Stretch",
    "Window",
]
