"""The machines of a night and the stretches in which they are listed: drawn, nothing decided."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate

from nightkiln.testing.market.dice import between, exponential, lognormal, throw
from nightkiln.testing.market.params import Market

HOUR_S = 3600.0
BIT_PER_GB = 8_000.0  # Mbit in a GB
STRETCHES_MAX = 10_000  # per machine and night; a shorter story than that is told in full


class Boot(Enum):
    """How a start ends."""

    OK = "ok"
    EARLY = "early"  # an error within minutes; the GPU is never billed
    STUCK_LOADING = "stuck_loading"  # never leaves the image pull; the GPU is never billed
    STUCK_RUNNING = "stuck_running"  # runs, billed, and never answers


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine as it is, which offers tell only in part."""

    name: str
    class_name: str  # as in the market file
    gpu: str  # as offers show it
    region: str
    is_bad_host: bool
    reliability: float  # advertised
    on_demand_usd_h: float  # before the drift from listing to listing
    mbps_advertised: float
    mbps_true: float
    usd_per_gb: float  # down and up
    s_per_job: float  # true mean
    prior_s_per_job: float  # what its class promises
    vram_gb: float


@dataclass(frozen=True, slots=True)
class Stretch:
    """One time for which one machine is listed at one price: what an offer stands for."""

    ref: str  # unique in the night
    machine: str
    gpu: str
    region: str
    listed_s: float
    gone_s: float  # when it goes if nobody of us rents it
    on_demand_usd_h: float  # outside a price spike, like the bid
    min_bid_usd_h: float
    storage_usd_h: float  # for the batch's disk
    usd_per_gb_down: float
    usd_per_gb_up: float
    mbps_advertised: float
    mbps_true: float
    reliability: float  # advertised
    is_bad_host: bool
    is_cached: bool  # the image is there already: only the models are fetched
    pull_s: float  # image pull, extract, frozen stretch: the GPU is hardly billed
    load_s: float  # models and application: billed
    boot: Boot
    boot_fails_s: float  # after renting, when an EARLY end shows; else infinite
    s_per_job: float
    prior_s_per_job: float
    vram_gb: float
    death_on_demand: float  # unit exponential: the host is lost at this integral of its hazard
    death_interruptible: float  # the same for being outbid, on top of the host's own end

    @property
    def startup_s(self) -> float:
        """From renting to the first job, where it comes up."""
        return self.pull_s + self.load_s


def machines(market: Market, seed: str) -> Iterator[Machine]:
    """Every machine that is ever listed, in the order of the file."""
    for class_name in market.classes:
        for number in range(market.classes[class_name].machines):
            yield _machine(market, seed, class_name, number)


def _machine(market: Market, seed: str, class_name: str, number: int) -> Machine:
    gpu_class, price = market.classes[class_name], market.price
    name = f"{class_name.lower().replace('_', '-')}-{number:03d}"
    bad, reliable, region, cost, *_ = throw(f"{seed}/{name}/host")
    is_bad = bad < market.failure.bad_host_share
    skew = market.failure.reliability_a_bad if is_bad else market.failure.reliability_a_good
    advertised, true, usd_per_gb = _network(market, f"{seed}/{name}/network")
    discount = price.bad_host_discount if is_bad else 1.0
    prior = gpu_class.prior_seconds_per_job
    return Machine(
        name=name,
        class_name=class_name,
        gpu=class_name.replace("_", " "),
        region=_region(market, region),
        is_bad_host=is_bad,
        reliability=reliable ** (1 / skew),  # Beta(a, 1) by its inverse
        on_demand_usd_h=gpu_class.od_median_usd_h * lognormal(cost, price.sigma) * discount,
        mbps_advertised=advertised,
        mbps_true=true,
        usd_per_gb=usd_per_gb,
        s_per_job=gpu_class.seconds_per_job * _luck(market, f"{seed}/{name}/speed"),
        prior_s_per_job=prior if prior > 0 else gpu_class.seconds_per_job,
        vram_gb=market.vram_gb(class_name),
    )


def _region(market: Market, unit: float) -> str:
    regions = market.regions
    for name, end in zip(regions.names, accumulate(regions.shares), strict=True):
        if unit < end:
            return name
    return regions.names[-1]  # the shares sum to one but for rounding


def _network(market: Market, name: str) -> tuple[float, float, float]:
    """Advertised and true Mbit/s, and USD per GB."""
    network = market.network
    speed, honesty, share, free, cost, *_ = throw(name)
    advertised = network.adv_mbps_median * lognormal(speed, network.adv_mbps_sigma)
    if honesty < network.liar_share:
        true = advertised * between(share, network.liar_true_low, network.liar_true_high)
    else:
        true = advertised * between(share, network.true_share_low, network.true_share_high)
    usd_per_gb = min(
        network.usd_gb_cap, network.usd_gb_median * lognormal(cost, network.usd_gb_sigma)
    )
    return advertised, true, 0.0 if free < network.free_share else usd_per_gb


def _luck(market: Market, name: str) -> float:
    """True over typical seconds per job."""
    speed = market.speed
    luck, shared, how_much, mode, *_ = throw(name)
    factor = lognormal(luck, speed.sigma)
    if shared < speed.shared_share:
        factor *= between(how_much, speed.shared_low, speed.shared_high)
    return factor * speed.bimodal_mult if mode < speed.bimodal_share else factor


def stretches(
    market: Market, machine: Machine, seed: str, *, horizon_s: float
) -> Iterator[Stretch]:
    """The listings of one machine that begin before ``horizon_s``, first first.

    Listed and away times alternate; both are memoryless, so at the start the machine is listed
    with the share of time that it is, for the rest of an ordinary stay.
    """
    away_mean_s = market.availability.away_mean_h * HOUR_S
    least_s = market.availability.listed_min_s
    first, *_ = throw(f"{seed}/{machine.name}/first")
    start_s = 0.0
    for number in range(STRETCHES_MAX):
        name = f"{seed}/{machine.name}/{number}"
        drift, stay, gap, *_ = throw(f"{name}/listing")
        on_demand = machine.on_demand_usd_h * lognormal(drift, market.price.drift_sigma)
        mean_s = _listed_mean_s(market, machine, on_demand)
        gap_s = away_mean_s * exponential(gap)
        if number > 0 or first >= mean_s / (mean_s + away_mean_s):
            start_s += gap_s
        if start_s >= horizon_s:
            return
        gone_s = start_s + max(least_s, mean_s * exponential(stay))
        yield _stretch(market, machine, name, on_demand, (start_s, gone_s))
        start_s = gone_s


def _listed_mean_s(market: Market, machine: Machine, on_demand_usd_h: float) -> float:
    """Bargains go first."""
    ratio: float = on_demand_usd_h / market.classes[machine.class_name].od_median_usd_h
    rules = market.availability
    stay: float = ratio**rules.cheap_elasticity
    return max(rules.listed_min_s, rules.listed_mean_h * HOUR_S * stay)


def _stretch(
    market: Market,
    machine: Machine,
    name: str,
    on_demand_usd_h: float,
    listed: tuple[float, float],
) -> Stretch:
    bid, host_end, outbid_end, *_ = throw(f"{name}/terms")
    is_cached, pull_s, load_s = _startup(market, machine, f"{name}/startup")
    boot, fails_s = _boot(market, machine, f"{name}/boot")
    ratio = between(bid, market.price.bid_ratio_low, market.price.bid_ratio_high)
    return Stretch(
        ref=f"{machine.name}.{name.rpartition('/')[2]}",
        machine=machine.name,
        gpu=machine.gpu,
        region=machine.region,
        listed_s=listed[0],
        gone_s=listed[1],
        on_demand_usd_h=on_demand_usd_h,
        min_bid_usd_h=on_demand_usd_h * ratio,
        storage_usd_h=market.storage_usd_h,
        usd_per_gb_down=machine.usd_per_gb,
        usd_per_gb_up=machine.usd_per_gb,
        mbps_advertised=machine.mbps_advertised,
        mbps_true=machine.mbps_true,
        reliability=machine.reliability,
        is_bad_host=machine.is_bad_host,
        is_cached=is_cached,
        pull_s=pull_s,
        load_s=load_s,
        boot=boot,
        boot_fails_s=fails_s,
        s_per_job=machine.s_per_job,
        prior_s_per_job=machine.prior_s_per_job,
        vram_gb=machine.vram_gb,
        death_on_demand=exponential(host_end),
        death_interruptible=exponential(outbid_end),
    )


def _startup(market: Market, machine: Machine, name: str) -> tuple[bool, float, float]:
    """Whether the image is there, seconds until it runs, seconds until it renders."""
    startup = market.startup
    cached, fast, extract, frozen, how_long, app, *_ = throw(name)
    is_cached = cached < startup.cached_share
    if is_cached:
        pull_s = between(fast, startup.cached_low_s, startup.cached_high_s)
    else:
        pull_s = market.batch.image_gb * BIT_PER_GB / machine.mbps_true
        pull_s += between(extract, startup.extract_low_s, startup.extract_high_s)
    if frozen < startup.frozen_share:
        pull_s += between(how_long, 0.0, startup.frozen_max_s)
    load_s = market.batch.models_gb * BIT_PER_GB / machine.mbps_true
    return is_cached, pull_s, load_s + between(app, startup.app_low_s, startup.app_high_s)


def _boot(market: Market, machine: Machine, name: str) -> tuple[Boot, float]:
    failure = market.failure
    fails, how, when, *_ = throw(name)
    if fails >= (failure.boot_fail_bad if machine.is_bad_host else failure.boot_fail_good):
        return Boot.OK, float("inf")
    if how < failure.early_share:
        return Boot.EARLY, between(when, failure.early_low_s, failure.early_high_s)
    is_loading = how < failure.early_share + failure.stuck_loading_share
    return (Boot.STUCK_LOADING if is_loading else Boot.STUCK_RUNNING), float("inf")
