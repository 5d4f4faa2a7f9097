"""What a machine costs, to the microsecond of the wall: the truth that bills are held against."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from nightkiln.core.model import Usd

MICROSECONDS = 1_000_000
MICROSECONDS_PER_HOUR = Decimal(3_600 * MICROSECONDS)
HOURS_PER_MONTH = 720  # as the service counts them: 30 days
GB_STEP = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Prices:
    """A machine's price in parts; the GPU's is kept where it may change."""

    storage_usd_per_hour: Usd
    usd_per_gb_in: Usd
    usd_per_gb_out: Usd


@dataclass(frozen=True, slots=True)
class Bill:
    """What one contract has cost; the parts are exact."""

    gpu_s: Decimal
    gpu_usd: Usd
    storage_s: Decimal
    storage_usd: Usd
    gb_in: Decimal
    in_usd: Usd
    gb_out: Decimal
    out_usd: Usd

    @property
    def usd(self) -> Usd:
        return self.gpu_usd + self.storage_usd + self.in_usd + self.out_usd


class Meter:
    """Runs while a contract exists; every change of state tells it when, by the wall."""

    def __init__(self, prices: Prices, *, usd_per_hour: Usd, since_s: float) -> None:
        self.prices, self.usd_per_hour = prices, usd_per_hour
        self.bills_gpu, self.bills_storage = False, True
        self._since = _microseconds(since_s)
        self._gpu: dict[Usd, int] = {}  # microseconds at each price
        self._storage = 0

    def turn(self, wall_s: float, *, gpu: bool, storage: bool) -> None:
        """From then on these are billed."""
        self._settle(wall_s)
        self.bills_gpu, self.bills_storage = gpu, storage

    def reprice(self, wall_s: float, usd_per_hour: Usd) -> None:
        """From then on the GPU costs this."""
        self._settle(wall_s)
        self.usd_per_hour = usd_per_hour

    def bill(self, wall_s: float, *, gb_in: float, gb_out: float) -> Bill:
        """The bill at that moment."""
        self._settle(wall_s)
        inward, outward = _gb(gb_in), _gb(gb_out)
        return Bill(
            gpu_s=Decimal(sum(self._gpu.values())) / MICROSECONDS,
            gpu_usd=sum((_rent(usd, span) for usd, span in self._gpu.items()), Decimal(0)),
            storage_s=Decimal(self._storage) / MICROSECONDS,
            storage_usd=_rent(self.prices.storage_usd_per_hour, self._storage),
            gb_in=inward,
            in_usd=inward * self.prices.usd_per_gb_in,
            gb_out=outward,
            out_usd=outward * self.prices.usd_per_gb_out,
        )

    def _settle(self, wall_s: float) -> None:
        """What is past is billed as it was; time never runs backwards."""
        now = max(self._since, _microseconds(wall_s))
        span, self._since = now - self._since, now
        if self.bills_gpu:
            self._gpu[self.usd_per_hour] = self._gpu.get(self.usd_per_hour, 0) + span
        if self.bills_storage:
            self._storage += span


def exact(number: float) -> Usd:
    """A price as it is written."""
    return Decimal(repr(number))


def _microseconds(wall_s: float) -> int:
    return round(wall_s * MICROSECONDS)


def _rent(usd_per_hour: Usd, microseconds: int) -> Usd:
    return usd_per_hour * microseconds / MICROSECONDS_PER_HOUR


def _gb(gb: float) -> Decimal:
    return Decimal(repr(gb)).quantize(GB_STEP)
