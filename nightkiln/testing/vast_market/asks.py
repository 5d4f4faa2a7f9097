"""Offers as the service lists them: each stretch of the night's machines under a number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from nightkiln.core.model import Kind
from nightkiln.testing.market import Night, Stretch
from nightkiln.testing.market.billing import quoted
from nightkiln.testing.market.dice import between, throw
from nightkiln.testing.vast_market.meter import HOURS_PER_MONTH

ASK_FIRST = 9_000_001
MACHINE_FIRST = 500
HOST_FIRST = 70
MACHINES_PER_HOST = 3
DAY_S = 86_400.0
TERM_DAYS = (3.0, 30.0)  # how long a host offers a machine for, by the wall
CUDA = "12.8"
DRIVER = "570.86.15"
GB_MB = 1024
# What cards truly report, in MiB, and compute capability times 100.
CARDS: Mapping[str, tuple[int, int]] = {
    "RTX 3090": (24576, 860),
    "RTX 4080": (16376, 890),
    "RTX 4090": (24564, 890),
    "RTX 5090": (32607, 1200),
    "L40S": (46068, 890),
    "A100 80": (81920, 800),
    "H100": (81559, 900),
}
COMPUTE_CAP_UNKNOWN = 890
PLACES: Mapping[str, tuple[str, ...]] = {
    "EU": ("Oslo, NO", "Berlin, DE", "Paris, FR", "Warsaw, PL", "Stockholm, SE"),
    "NA": ("Texas, US", "Oregon, US", "Quebec, CA"),
    "AS": ("Hanoi, VN", "Taipei, TW", "Tokyo, JP", "Seoul, KR"),
    "OT": ("Sydney, AU", "Sao Paulo, BR"),
}
# What nobody who asks for the usual would be shown; each differs from a sound offer in one thing.
DECOYS: tuple[Mapping[str, Any], ...] = (
    {"verified": False, "verification": "unverified"},
    {"num_gpus": 2},
    {"cpu_arch": "arm64"},
    {"cuda_max_good": 11.8},
    {"direct_port_count": 0},
    {"external": True},
    {"rented": True},
    {"duration": 1_800.0},
)
DECOY_FIRST = 8_000_001


@dataclass(frozen=True, slots=True)
class Ask:
    """One offer: a stretch, and the numbers under which the service knows it."""

    id: int
    machine_id: int
    host_id: int
    stretch: Stretch
    term_s: float  # how long from its listing, by the wall, until the host takes it back
    is_datacenter: bool
    geolocation: str
    disk_gb: float
    disk_mb_s: float
    ports: int
    cores: int

    @property
    def gpu_mb(self) -> int:
        card = CARDS.get(self.stretch.gpu)
        return card[0] if card is not None else round(self.stretch.vram_gb * GB_MB)


class Asks:
    """Every offer of a night, and those that were put there by hand."""

    def __init__(self, night: Night) -> None:
        self._night = night
        self._machine_ids = {
            machine.name: MACHINE_FIRST + number for number, machine in enumerate(night.machines)
        }
        self._asks = [
            self._ask(ASK_FIRST + number, stretch) for number, stretch in enumerate(night.stretches)
        ]

    def __len__(self) -> int:
        return len(self._asks)

    def get(self, ask_id: int) -> Ask | None:
        number = ask_id - ASK_FIRST
        return self._asks[number] if 0 <= number < len(self._asks) else None

    def listed(self, story_s: float) -> Iterator[Ask]:
        """What is on the market, whoever has it."""
        for ask in self._asks:
            if ask.stretch.listed_s <= story_s < ask.stretch.gone_s:
                yield ask

    def add(self, stretch: Stretch) -> Ask:
        """Put one there by hand."""
        if stretch.machine not in self._machine_ids:
            self._machine_ids[stretch.machine] = MACHINE_FIRST + len(self._machine_ids)
        ask = self._ask(ASK_FIRST + len(self._asks), stretch)
        self._asks.append(ask)
        return ask

    def clear(self) -> None:
        """Take everything off the market; what is rented stays."""
        self._asks = [
            replace(ask, stretch=replace(ask.stretch, gone_s=ask.stretch.listed_s))
            for ask in self._asks
        ]

    def _ask(self, ask_id: int, stretch: Stretch) -> Ask:
        machine_id = self._machine_ids[stretch.machine]
        place, hosting, disk, disk_speed, ports, cores, term, _ = throw(
            f"vast-1/{self._night.seed}/{stretch.machine}"
        )
        places = PLACES.get(stretch.region, PLACES["OT"])
        needs_gb = self._night.market.batch.disk_gb
        return Ask(
            id=ask_id,
            machine_id=machine_id,
            host_id=HOST_FIRST + (machine_id - MACHINE_FIRST) // MACHINES_PER_HOST,
            stretch=stretch,
            term_s=between(term, *TERM_DAYS) * DAY_S,
            is_datacenter=hosting < 1 / 3,
            geolocation=places[int(place * len(places))],
            disk_gb=round(between(disk, 2 * needs_gb, 20 * needs_gb), 1),
            disk_mb_s=round(between(disk_speed, 600.0, 5_000.0), 1),
            ports=int(between(ports, 8, 200)),
            cores=int(between(cores, 6, 64)),
        )

    # As rows.

    def row(self, ask: Ask, story_s: float, kind: Kind, disk_gb: float) -> dict[str, Any]:
        """An offer as a search shows it, with a disk of that size in its price."""
        stretch = ask.stretch
        minimum = quoted(min_bid_usd_h(self._night, stretch, story_s))
        dear = quoted(self._night.gpu_usd_h(stretch, Kind.ON_DEMAND, story_s))
        is_bid = kind is Kind.INTERRUPTIBLE
        base = float(minimum if is_bid else dear)
        monthly = storage_usd_gb_month(self._night, stretch)
        disk_usd_h = monthly * disk_gb / HOURS_PER_MONTH
        total = base + disk_usd_h
        return {
            **_machine_row(ask),
            "id": ask.id,
            "ask_contract_id": ask.id,
            "bundle_id": ask.id - ASK_FIRST + 1,
            "dph_base": base,
            "dph_total": total,
            "min_bid": float(minimum),
            "is_bid": is_bid,
            "storage_cost": monthly,
            "storage_total_cost": disk_usd_h,
            "inet_up_cost": float(quoted(stretch.usd_per_gb_up)),
            "inet_down_cost": float(quoted(stretch.usd_per_gb_down)),
            "duration": ask.term_s,
            "dlperf": round(100.0 / stretch.prior_s_per_job, 3),
            "dlperf_per_dphtotal": round(100.0 / stretch.prior_s_per_job / total, 3),
            "score": round(1000.0 / stretch.prior_s_per_job / total, 3),
            "search": {"gpuCostPerHour": base, "diskHour": disk_usd_h, "totalHour": total},
            "credit_discount_max": 0.0,
        }

    def decoys(self, story_s: float, kind: Kind, disk_gb: float) -> Iterator[dict[str, Any]]:
        """Cheap offers that the usual filters hide; whoever rents one finds it gone."""
        sound = next((ask for ask in self._asks if ask.stretch.gone_s > 0), None)
        if sound is None:
            return
        for number, change in enumerate(DECOYS):
            row = self.row(sound, story_s, kind, disk_gb)
            ask_id = DECOY_FIRST + number
            cheap = {"dph_base": 0.01, "dph_total": 0.02, "min_bid": 0.005}
            yield {**row, "id": ask_id, "ask_contract_id": ask_id, **cheap, **change}


def min_bid_usd_h(night: Night, stretch: Stretch, story_s: float) -> float:
    """What a bid must at least be at that moment."""
    return stretch.min_bid_usd_h * night.price_mult(story_s)


def storage_usd_gb_month(night: Night, stretch: Stretch) -> float:
    """So that the night's disk costs what the in-process front says, by the service's month."""
    disk_gb = night.market.batch.disk_gb
    return stretch.storage_usd_h * HOURS_PER_MONTH / disk_gb if disk_gb > 0 else 0.0


def _machine_row(ask: Ask) -> dict[str, Any]:
    """What an offer says of the machine itself."""
    stretch = ask.stretch
    _, capability = CARDS.get(stretch.gpu, (0, COMPUTE_CAP_UNKNOWN))
    return {
        "machine_id": ask.machine_id,
        "host_id": ask.host_id,
        "gpu_name": stretch.gpu,
        "num_gpus": 1,
        "gpu_ram": ask.gpu_mb,
        "gpu_total_ram": ask.gpu_mb,
        "compute_cap": capability,
        "cuda_max_good": float(CUDA),
        "driver_version": DRIVER,
        "cpu_cores": None if ask.machine_id % 17 == 0 else ask.cores,  # as is seen live
        "cpu_cores_effective": float(ask.cores),
        "cpu_ram": ask.cores * 4_000,
        "cpu_arch": "amd64",
        "disk_space": ask.disk_gb,
        "disk_bw": ask.disk_mb_s,
        "inet_down": stretch.mbps_advertised,
        "inet_up": round(stretch.mbps_advertised * 0.7, 3),
        "reliability": stretch.reliability,
        "reliability2": stretch.reliability,
        "expected_reliability": stretch.reliability,
        "verified": True,
        "verification": "verified",
        "external": False,
        "rentable": True,
        "rented": False,
        "hosting_type": int(ask.is_datacenter),
        "static_ip": ask.is_datacenter,
        "direct_port_count": ask.ports,
        "geolocation": ask.geolocation,
        "public_ipaddr": "127.0.0.1",
        "vms_enabled": False,
    }
