"""The parameters of a market: every table of a market file, read strictly.

A market file is TOML; each number line says its unit, provenance (measured, published, derived
or guess), date and note in a comment. Times and rates are in hours there because people think
of nights in hours; names say the unit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, TypeAlias

FIGURE_MAX = 1e9  # nothing in a market is larger; keeps a typing error from becoming an overflow
MACHINES_MAX = 10_000  # per class: a night is drawn in memory
SIGMA_MAX = 3.0  # sd of a logarithm: e**3 either way is beyond any market
DIGEST_DIGITS = 12  # hex digits printed beside figures

# Facts about the cards; a class of another name says its own ``vram_gb``.
VRAM_GB = {
    "RTX_3090": 24.0,
    "RTX_4080": 16.0,
    "RTX_4090": 24.0,
    "RTX_5090": 32.0,
    "L40S": 48.0,
    "A100_80": 80.0,
    "H100": 80.0,
}
VRAM_GB_UNKNOWN = 24.0  # the commonest size among cards that render


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a number may be, ends included."""

    low: float
    high: float


Amount: TypeAlias = Annotated[float, Bounds(0.0, FIGURE_MAX)]
Positive: TypeAlias = Annotated[float, Bounds(1e-6, FIGURE_MAX)]
Share: TypeAlias = Annotated[float, Bounds(0.0, 1.0)]
Sigma: TypeAlias = Annotated[float, Bounds(0.0, SIGMA_MAX)]
Factor: TypeAlias = Annotated[float, Bounds(1e-3, 1e3)]
Elasticity: TypeAlias = Annotated[float, Bounds(0.0, 10.0)]
Moment: TypeAlias = Annotated[float, Bounds(-1.0, 10_000.0)]  # h after the start; < 0: never
MeanHours: TypeAlias = Annotated[float, Bounds(0.01, 10_000.0)]  # shorter would flood a night
Count: TypeAlias = Annotated[int, Bounds(0, MACHINES_MAX)]
Jobs: TypeAlias = Annotated[int, Bounds(1, FIGURE_MAX)]


@dataclass(frozen=True, slots=True)
class Meta:
    """Which market this is."""

    name: str
    made: str  # YYYY-MM-DD
    schema: Annotated[int, Bounds(1, 1)]


@dataclass(frozen=True, slots=True)
class BatchFacts:
    """What one typical batch weighs."""

    jobs: Jobs
    image_gb: Amount  # compressed container image
    models_gb: Amount
    result_mb: Amount  # per job, sent back
    disk_gb: Amount  # rented
    job_fail_share: Share  # of attempts
    job_sigma: Sigma  # sd of ln(job seconds) on one machine
    hang_share: Share  # of attempts, never return


@dataclass(frozen=True, slots=True)
class GpuClass:
    """Machines of one GPU that are ever listed in a night."""

    machines: Count
    seconds_per_job: Positive  # true, of a machine with ordinary luck
    od_median_usd_h: Positive
    prior_seconds_per_job: Amount = 0.0  # what one would expect beforehand; 0: the true one
    vram_gb: Amount = 0.0  # 0: as in VRAM_GB


@dataclass(frozen=True, slots=True)
class Price:
    """How prices scatter, and an evening spike."""

    sigma: Sigma
    bid_ratio_low: Positive  # min_bid / on-demand
    bid_ratio_high: Positive
    bid_premium: Factor  # x min_bid that we offer
    drift_sigma: Sigma  # between two listings of one machine
    bad_host_discount: Factor
    storage_usd_gb_month: Amount
    spike_from_h: Moment
    spike_to_h: Moment
    spike_price_mult: Factor
    spike_outbid_mult: Amount


@dataclass(frozen=True, slots=True)
class Network:
    """Bandwidth, as advertised and as it is, and what traffic costs."""

    adv_mbps_median: Positive
    adv_mbps_sigma: Sigma
    true_share_low: Positive
    true_share_high: Positive
    liar_share: Share
    liar_true_low: Positive
    liar_true_high: Positive
    free_share: Share
    usd_gb_median: Amount
    usd_gb_sigma: Sigma
    usd_gb_cap: Amount


@dataclass(frozen=True, slots=True)
class Startup:
    """How long a machine takes until it renders."""

    cached_share: Share
    cached_low_s: Amount
    cached_high_s: Amount
    extract_low_s: Amount
    extract_high_s: Amount
    frozen_share: Share
    frozen_max_s: Amount
    app_low_s: Amount
    app_high_s: Amount
    gpu_billed_while_loading: Share


@dataclass(frozen=True, slots=True)
class Failure:
    """How starts fail."""

    bad_host_share: Share
    boot_fail_good: Share
    boot_fail_bad: Share
    early_share: Share
    stuck_loading_share: Share
    reliability_a_good: Positive
    reliability_a_bad: Positive
    early_low_s: Amount = 20.0  # guess: broken images and full disks show within minutes
    early_high_s: Amount = 300.0


@dataclass(frozen=True, slots=True)
class Hazard:
    """How leases are lost."""

    od_good_per_h: Amount
    od_bad_per_h: Amount
    outbid_per_h: Amount
    detect_s: Amount  # until we notice


@dataclass(frozen=True, slots=True)
class Speed:
    """Luck between machines of one class."""

    sigma: Sigma
    shared_share: Share
    shared_low: Factor
    shared_high: Factor
    bimodal_share: Share
    bimodal_mult: Factor


@dataclass(frozen=True, slots=True)
class Availability:
    """How offers come and go."""

    listed_mean_h: MeanHours
    away_mean_h: MeanHours
    cheap_elasticity: Elasticity  # listed time x (price / median) ** this
    listed_min_s: Positive = 60.0  # guess: the greatest bargain is seen for a minute


@dataclass(frozen=True, slots=True)
class Regions:
    """Where machines stand, and a region that may fail."""

    names: tuple[str, ...]
    shares: tuple[Share, ...]
    outage_chance: Share
    outage_region: Count
    outage_from_h: Amount  # up to 1: a share of the deadline, the earliest; above: hours
    outage_hours: Amount


@dataclass(frozen=True, slots=True)
class FallbackFacts:
    """The dear, quick and reliable service."""

    usd_h: Positive
    seconds_per_job: Positive
    sigma: Sigma
    cold_s: Amount
    scaledown_s: Amount
    max_containers: Count
    gpu: str = "L40S"
    vram_gb: Amount = 48.0


@dataclass(frozen=True, slots=True)
class JobTroubles:
    """Optional table ``[jobs]``: what is wrong with jobs, not with machines."""

    poison_share: Share = 0.0  # of jobs: fail everywhere
    corrupt_share: Share = 0.0  # of attempts: the image comes back damaged
    hungry_share: Share = 0.0  # of jobs: run out of memory on cards below hungry_needs_gb
    hungry_needs_gb: Amount = 0.0


@dataclass(frozen=True, slots=True)
class ApiTroubles:
    """Optional table ``[api]``: the market's own service fails for a while."""

    outage_chance: Share = 0.0  # per night
    outage_s: Amount = 0.0
    storm_chance: Share = 0.0  # per night, of a storm of 429
    storm_s: Amount = 0.0


@dataclass(frozen=True, slots=True)
class Offline:
    """Optional table ``[offline]``: machines that are unreachable for a while and come back."""

    per_h: Amount = 0.0
    mean_s: Amount = 0.0


@dataclass(frozen=True, slots=True)
class Market:
    """Everything a night is drawn from."""

    meta: Meta
    batch: BatchFacts
    classes: dict[str, GpuClass]  # by the name in the file, "RTX_4090"
    price: Price
    network: Network
    startup: Startup
    failure: Failure
    hazard: Hazard
    speed: Speed
    availability: Availability
    regions: Regions
    fallback: FallbackFacts
    jobs: JobTroubles = field(default_factory=JobTroubles)
    api: ApiTroubles = field(default_factory=ApiTroubles)
    offline: Offline = field(default_factory=Offline)
    sha256: str = ""  # of the file's bytes; empty: made in memory

    @property
    def name(self) -> str:
        return self.meta.name

    @property
    def digest(self) -> str:
        """What is printed beside every figure, so that it says which market it is from."""
        return self.sha256[:DIGEST_DIGITS]

    @property
    def storage_usd_h(self) -> float:
        """What the batch's disk costs per hour."""
        return self.price.storage_usd_gb_month * self.batch.disk_gb / HOURS_PER_MONTH

    def vram_gb(self, class_name: str) -> float:
        """GPU memory of a class, in GB."""
        given = self.classes[class_name].vram_gb
        return given if given > 0 else VRAM_GB.get(class_name, VRAM_GB_UNKNOWN)


HOURS_PER_MONTH = 730.0  # as clouds count them: 8,760 / 12
