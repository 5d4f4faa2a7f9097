"""A search at the service, and its rows as offers. Pure.

Queries are objects, never text: the SDK's parser of texts silently drops filters. Units are the
service's own: MB, Mb/s, seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal
from math import ceil
from typing import Any

from nightkiln.core.model import Kind, Need, Offer, Usd
from nightkiln.providers.vast.errors import NAME
from nightkiln.providers.vast.regions import countries
from nightkiln.providers.vast.terms import VastTerms
from nightkiln.providers.vast.values import at_least_0, number, text, usd, whole

MB_PER_GB = 1024
MEMORY_SHARE_MIN = 0.93  # cards report a few per cent less memory than they are sold with
STORAGE_HOURS = Decimal(720)  # of a month, as the service counts
BID_STEP = Decimal("0.0001")
BID_MIN, BID_MAX = Decimal("0.001"), Decimal(128)
DATACENTER = 1  # ``hosting_type``
BID_MARK = ":bid"  # on the ref of an interruptible offer: both kinds of a machine share a number


@dataclass(frozen=True, slots=True)
class Wish:
    """What is searched for: what the catalog needs, what the settings allow, and the disk."""

    need: Need
    terms: VastTerms
    disk_gb: int


def query(wish: Wish) -> dict[str, Any]:
    """The filters of one search; those without a value are left out."""
    need, terms = wish.need, wish.terms
    gpus = _gpus(need, terms)
    filters: dict[str, Mapping[str, Any] | None] = {
        "external": {"eq": False},
        "rentable": {"eq": True},
        "rented": {"eq": False},
        "num_gpus": {"eq": 1},
        "verified": {"eq": True} if terms.is_verified or need.trust == "verified" else None,
        "datacenter": {"eq": True} if need.trust == "datacenter" else None,
        "gpu_name": {"in": gpus} if gpus else None,
        "gpu_ram": _at_least(ceil(need.vram_gb * MB_PER_GB * MEMORY_SHARE_MIN) or None),
        "disk_space": _at_least(wish.disk_gb),
        "reliability": _at_least(terms.reliability_min),
        "inet_down": _at_least(terms.mbps_down_min),
        "inet_up": _at_least(terms.mbps_up_min),
        "disk_bw": _at_least(terms.disk_mb_per_s_min),
        "direct_port_count": _at_least(terms.direct_ports_min),
        # Alone, the first of the two hides good machines.
        "cuda_max_good": _at_least(terms.cuda_min),
        "compute_cap": _at_least(terms.compute_cap_min),
        "cpu_arch": {"eq": terms.cpu_arch} if terms.cpu_arch is not None else None,
        "duration": _at_least(terms.duration_s_min),
        "inet_down_cost": _at_most(terms.usd_per_gb_max),
        "dph_total": _at_most(terms.usd_per_hour_max),
        "geolocation": _places(terms),
        "machine_id": _none_of(terms.machines_not),
    }
    return {name: dict(filter_) for name, filter_ in filters.items() if filter_ is not None}


def _gpus(need: Need, terms: VastTerms) -> list[str]:
    """Names as the service writes them; both lists have to agree, where there are two."""
    asked, allowed = ([_gpu(name) for name in names] for names in (need.gpus, terms.gpus))
    if not asked or not allowed:
        return asked or allowed
    # None in common: a name that no card has, since an empty list would mean any.
    return [name for name in asked if name in allowed] or ["none"]


def _gpu(name: str) -> str:
    return " ".join(name.replace("_", " ").split())


def _at_least(value: float | None) -> Mapping[str, Any] | None:
    return {"gte": value} if value is not None else None


def _at_most(value: float | None) -> Mapping[str, Any] | None:
    return {"lte": value} if value is not None else None


def _places(terms: VastTerms) -> Mapping[str, Any] | None:
    unwanted = countries(terms.regions_not)
    if terms.regions:
        wanted = [code for code in countries(terms.regions) if code not in unwanted]
        return {"in": wanted or ["none"]}
    return {"notin": unwanted} if unwanted else None


def _none_of(machines: Iterable[str]) -> Mapping[str, Any] | None:
    ids = [found for machine in machines if (found := whole(machine)) is not None]
    return {"notin": ids} if ids else None


def read_offers(
    on_demand: Sequence[Any], interruptible: Sequence[Any], wish: Wish, *, limit: int
) -> list[Offer]:
    """Rows of both searches as offers, cheapest hour first; rows that make no sense are left out.

    What the service was asked to filter is looked at again where getting it wrong costs money or
    trust.
    """
    asks = [one for raw in on_demand if (one := _on_demand(raw, wish)) is not None]
    prices = {offer.machine: offer.usd_per_hour for offer in asks}
    bids = [one for raw in interruptible if (one := _bid(raw, wish, prices)) is not None]
    unique = {offer.ref: offer for offer in (*asks, *bids) if _is_wanted(offer, wish)}
    return sorted(unique.values(), key=_hour)[:limit]


def _hour(offer: Offer) -> tuple[Usd, str]:
    return (offer.usd_per_hour + offer.storage_usd_per_hour, offer.ref)


def _on_demand(raw: Any, wish: Wish) -> Offer | None:
    price = usd(raw.get("dph_base")) if isinstance(raw, dict) else None
    return _offer(raw, wish, Kind.ON_DEMAND, price) if price is not None else None


def _bid(raw: Any, wish: Wish, on_demand: Mapping[str, Usd]) -> Offer | None:
    """The offer at the bid that we would make; none where that is no cheaper than on demand."""
    least = usd(raw.get("min_bid")) if isinstance(raw, dict) else None
    if least is None:
        return None
    premium = Decimal(str(wish.terms.bid_premium))
    bid = (least * premium).quantize(BID_STEP, rounding=ROUND_UP)
    machine = whole(raw.get("machine_id"))
    most = on_demand.get(str(machine), BID_MAX)
    return _offer(raw, wish, Kind.INTERRUPTIBLE, max(bid, BID_MIN)) if bid < most else None


def _offer(raw: Mapping[str, Any], wish: Wish, kind: Kind, price: Usd) -> Offer | None:
    ask, machine = whole(raw.get("id")), whole(raw.get("machine_id"))
    storage = usd(raw.get("storage_cost"))
    if ask is None or machine is None or storage is None or whole(raw.get("num_gpus")) != 1:
        return None
    memory_mb, mbps = at_least_0(raw.get("gpu_ram")), at_least_0(raw.get("inet_down"))
    return Offer(
        provider=NAME,
        ref=f"{ask}{BID_MARK if kind is Kind.INTERRUPTIBLE else ''}",
        gpu=text(raw.get("gpu_name")) or "unknown",
        usd_per_hour=price,
        startup_s=wish.terms.startup_s,
        kind=kind,
        machine=str(machine),
        storage_usd_per_hour=storage * wish.disk_gb / STORAGE_HOURS,
        usd_per_gb_in=_traffic(raw, "inet_down_cost"),
        usd_per_gb_out=_traffic(raw, "inet_up_cost"),
        mbps_in=mbps or None,
        reliability=_reliability(raw),
        # Rounded: a card that is sold with 24 GB tells of 23.99.
        vram_gb=round(memory_mb / MB_PER_GB) if memory_mb else None,
        region=text(raw.get("geolocation")).rpartition(",")[2].strip(),
        loading_billed=0.0,  # the GPU is billed from the moment the container runs
        trust=_trust(raw),
    )


def _traffic(raw: Mapping[str, Any], name: str) -> Usd:
    """USD per GB; what is not told is taken as dear, not as free."""
    found = usd(raw.get(name))
    return found if found is not None else Decimal("0.05")


def _reliability(raw: Mapping[str, Any]) -> float:
    found = (number(raw.get(name)) for name in ("reliability2", "reliability"))
    return min(1.0, max(0.0, next((one for one in found if one is not None), 0.0)))


def _trust(raw: Mapping[str, Any]) -> str:
    if whole(raw.get("hosting_type")) == DATACENTER:
        return "datacenter"
    return "verified" if raw.get("verification") == "verified" else "any"


def _is_wanted(offer: Offer, wish: Wish) -> bool:
    need, terms = wish.need, wish.terms
    gpus = _gpus(need, terms)
    is_trusted = offer.trust == "datacenter" or need.trust in {"any", offer.trust}
    has_memory = offer.vram_gb is None or offer.vram_gb >= need.vram_gb * MEMORY_SHARE_MIN
    return (
        is_trusted
        and has_memory
        and offer.usd_per_hour > 0
        and float(_hour(offer)[0]) <= terms.usd_per_hour_max
        and offer.machine not in terms.machines_not
        and (not gpus or _gpu(offer.gpu) in gpus)
    )
