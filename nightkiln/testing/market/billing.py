"""What a lease truly costs: the truth that a ledger is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from nightkiln.core.model import Kind, Lease, LeaseId, Offer, Usd
from nightkiln.ports.provider import Billed
from nightkiln.testing.market.machines import BIT_PER_GB, Boot, Stretch
from nightkiln.testing.market.params import Market

SECONDS_PER_HOUR = Decimal(3600)
MICROSECOND = Decimal("0.000001")  # seconds are billed to the microsecond
USD_STEP = Decimal("0.000001")  # prices are quoted to the millionth of a dollar


@dataclass(frozen=True, slots=True)
class Usage:
    """How a lease was used, in seconds since the night began."""

    rented_s: float
    until_s: float  # released, or now
    death_s: float  # infinite: it lives
    jobs: int  # rendered and fetched, those of a lump counted singly
    is_released: bool

    @property
    def alive_s(self) -> float:
        """How long there was a machine."""
        return max(0.0, min(self.until_s, self.death_s) - self.rented_s)


@dataclass(frozen=True, slots=True)
class Bill:
    """What one lease costs up to its release, or up to now; parts are exact."""

    lease_id: LeaseId
    offer_ref: str
    kind: Kind
    rented_s: float
    released_s: float | None  # None: it still costs
    gpu_s: float  # billed at the full rate
    gpu_usd: Usd
    storage_usd: Usd
    gb_in: float
    in_usd: Usd
    gb_out: float
    out_usd: Usd

    @property
    def usd(self) -> Usd:
        return self.gpu_usd + self.storage_usd + self.in_usd + self.out_usd


def machine_bill(
    lease_id: LeaseId, offer: Offer, usage: Usage, *, market: Market, stretch: Stretch
) -> Bill:
    """The bill of a rented machine.

    A machine that was taken away bills no GPU any more, but its disk until it is released.
    """
    gpu_s = _machine_gpu_s(usage, stretch, offer.loading_billed)
    gb_in = _gb_in(usage.alive_s, market, stretch)
    gb_out = usage.jobs * market.batch.result_mb / 1000
    return Bill(
        lease_id=lease_id,
        offer_ref=offer.ref,
        kind=offer.kind,
        rented_s=usage.rented_s,
        released_s=usage.until_s if usage.is_released else None,
        gpu_s=gpu_s,
        gpu_usd=_rent(offer.usd_per_hour, gpu_s),
        storage_usd=_rent(offer.storage_usd_per_hour, usage.until_s - usage.rented_s),
        gb_in=gb_in,
        in_usd=offer.usd_per_gb_in * _exact(gb_in),
        gb_out=gb_out,
        out_usd=offer.usd_per_gb_out * _exact(gb_out),
    )


def container_bill(lease_id: LeaseId, offer: Offer, usage: Usage) -> Bill:
    """The bill of a serverless container: cold start and linger included, traffic free."""
    gpu_s = usage.alive_s + (offer.idle_tail_s if usage.is_released else 0.0)
    return Bill(
        lease_id=lease_id,
        offer_ref=offer.ref,
        kind=offer.kind,
        rented_s=usage.rented_s,
        released_s=usage.until_s if usage.is_released else None,
        gpu_s=gpu_s,
        gpu_usd=_rent(offer.usd_per_hour, gpu_s),
        storage_usd=Decimal(0),
        gb_in=0.0,
        in_usd=Decimal(0),
        gb_out=0.0,
        out_usd=Decimal(0),
    )


def quoted(usd: float) -> Usd:
    """A price as a provider quotes it."""
    return Decimal(repr(usd)).quantize(USD_STEP)


def _machine_gpu_s(usage: Usage, stretch: Stretch, loading_billed: float) -> float:
    """Seconds at the full rate; those of the image pull count for their share."""
    alive_s = usage.alive_s
    if stretch.boot in {Boot.EARLY, Boot.STUCK_LOADING}:
        return loading_billed * min(alive_s, stretch.boot_fails_s)
    pulled_s = min(alive_s, stretch.pull_s)
    return loading_billed * pulled_s + alive_s - pulled_s


def _gb_in(alive_s: float, market: Market, stretch: Stretch) -> float:
    """What has been fetched after so long: the image evenly over the pull, then the models."""
    alive_s = min(alive_s, stretch.boot_fails_s)
    image_gb = 0.0 if stretch.is_cached else market.batch.image_gb
    if stretch.boot in {Boot.EARLY, Boot.STUCK_LOADING}:
        return image_gb * min(1.0, alive_s / stretch.pull_s)
    if alive_s < stretch.pull_s:
        return image_gb * alive_s / stretch.pull_s
    models_s = max(0.0, alive_s - stretch.pull_s)
    models_gb = min(market.batch.models_gb, models_s * stretch.mbps_true / BIT_PER_GB)
    return image_gb + models_gb


def _rent(usd_per_hour: Usd, seconds: float) -> Usd:
    return usd_per_hour * _exact(seconds) / SECONDS_PER_HOUR


def _exact(number: float) -> Decimal:
    return Decimal(repr(number)).quantize(MICROSECOND)


def listed(lease: Lease, fleet: str, since_s: float) -> Billed:
    """A lease among those that a service says it bills us for."""
    offer = lease.offer
    return Billed(
        lease_id=lease.id,
        fleet=fleet,
        contract=offer.ref,
        usd_per_hour=offer.usd_per_hour + offer.storage_usd_per_hour,
        since_s=since_s,
        status="running",
        gpu=offer.gpu,
        machine=offer.machine,
    )
