"""What can be had: so many containers of each kind of GPU that the app is deployed for.

The first kind stands for the app's own list, in its order of preference, so that a container comes
from the next kind where the first is not to be had; its price is that of the dearest of the list.
Every other kind is asked for by name, and is what a job gets that needs more memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from nightkiln.core.model import Kind, Need, Offer, Usd
from nightkiln.providers.modal.errors import NAME
from nightkiln.providers.modal.facts import Deployed
from nightkiln.providers.modal.prices import Prices, class_of
from nightkiln.providers.modal.terms import ModalTerms

HOUR_S = 3600
QUEUE_S = 120.0  # until there is a GPU at all, beyond what a container may take to start
CENT_PARTS = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Choice:
    """One kind of slot."""

    gpu: str  # by which it is called
    asked: str | None  # what containers are asked to have; None: the app's own list
    usd_per_s: Usd  # of a container, at most
    vram_gb: float | None  # at least


def choices(deployed: Deployed, need: Need, prices: Prices, terms: ModalTerms) -> list[Choice]:
    """The kinds that a job of this need can use, cheapest first."""
    found = [
        choice
        for number, gpu in enumerate(deployed.gpus)
        for choice in _choice(gpu, deployed.gpus, need, prices, terms, is_first=number == 0)
    ]
    return sorted(found, key=lambda choice: choice.usd_per_s)


def _choice(
    gpu: str,
    listed: tuple[str, ...],
    need: Need,
    prices: Prices,
    terms: ModalTerms,
    *,
    is_first: bool,
) -> Iterator[Choice]:
    def usd_per_s(name: str) -> Usd:
        return prices.usd_per_s(name, cpu=terms.cpu, memory_mib=terms.memory_mib)

    if is_first and all(_will_do(one, need, prices.vram_gb) for one in listed):
        vram = [prices.vram_gb.get(class_of(one)) for one in listed]
        known = [one for one in vram if one is not None]
        least = min(known) if len(known) == len(vram) else None
        yield Choice(gpu, None, max(map(usd_per_s, listed)), least)
    elif _will_do(gpu, need, prices.vram_gb):
        yield Choice(gpu, gpu, usd_per_s(gpu), prices.vram_gb.get(class_of(gpu)))


def _will_do(gpu: str, need: Need, vram_gb: Mapping[str, float]) -> bool:
    has_memory = vram_gb.get(class_of(gpu), need.vram_gb) >= need.vram_gb
    return has_memory and (not need.gpus or class_of(gpu) in set(map(class_of, need.gpus)))


def offer_of(choice: Choice, number: int, deployed: Deployed, terms: ModalTerms) -> Offer:
    """One slot with one kind of GPU; whoever has it so cannot have it with another, too.

    No two slots of a process have the same number: a container is never had twice.
    """
    ref = f"{choice.gpu}-{number}"
    return Offer(
        provider=NAME,
        ref=ref,
        gpu=choice.gpu,
        usd_per_hour=(choice.usd_per_s * HOUR_S).quantize(CENT_PARTS),
        startup_s=deployed.startup_timeout_s + QUEUE_S,
        slots=1,  # a second call in the queue would start a second container
        kind=Kind.SERVERLESS,
        machine=f"slot-{number}",
        vram_gb=choice.vram_gb,
        idle_tail_s=float(terms.scaledown_s),
    )
