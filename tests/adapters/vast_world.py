"""What tests of the Vast provider share: the real SDK, the simulated market, and haste."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from nightkiln.core.model import Kind, Lease, LeaseId, Need, Offer
from nightkiln.providers.vast import Limits, VastProvider, VastTerms
from nightkiln.testing.vast_market import Rules, VastMarket
from nightkiln.testing.vast_market.samples import quiet_night

NEED = Need(vram_gb=16, disk_gb=40)
HASTY = Limits(
    answer_s=2.0,
    list_s=10.0,
    search_s=10.0,
    release_s=30.0,
    ambiguous_s=3.0,
    farewell_s=10.0,
    appear_s=1.0,
    look_again_s=0.1,
    destroy_again_s=1.0,
    offline_s=0.5,
    scheduling_s=0.5,
    stopping_s=0.3,
    pace=0.0,
)
TERMS = VastTerms(kinds=(Kind.ON_DEMAND,), poll_s=0.1, limits=HASTY)
LIFE_S = 3600.0


@asynccontextmanager
async def a_market(*faults: str, **rules: Any) -> AsyncIterator[VastMarket]:
    """A quiet night without limits, but for the faults; a story second takes 10 ms."""
    chosen = Rules(**{"speed": 100.0, "limits_scale": 0.0, "hang_s": 4.0, **rules}, faults=faults)
    async with VastMarket(quiet_night(), rules=chosen) as market:
        yield market


def a_provider(
    market: VastMarket, state: Path, terms: VastTerms = TERMS, *, key: str | None = None
) -> VastProvider:
    """The provider under test."""
    chosen = replace(terms, url=market.url)
    return VastProvider(key if key is not None else market.key, chosen, state=state)


def lease_id(number: int, batch: str = "night") -> LeaseId:
    return LeaseId(f"{batch}-1-lease-{number:03d}")


async def rented(provider: VastProvider, number: int = 0, offer: Offer | None = None) -> Lease:
    """One more machine, the cheapest that is left."""
    if offer is None:
        offer = (await provider.offers(NEED, limit=1))[0]
    until_s = time.time() + LIFE_S
    return await provider.rent(offer, lease_id(number), NEED, expires_at_s=until_s)


def alive(market: VastMarket) -> list[str]:
    """Labels of everything that is billed, by the market's own books."""
    return sorted(str(one["label"]) for one in market.machines() if one["is_billed"])


def calls(market: VastMarket, endpoint: str) -> int:
    """How often that was called."""
    return sum(request.endpoint == endpoint for request in market.requests)


async def until(claim: Callable[[], bool], *, within_s: float = 20.0) -> None:
    """Wait for something that nobody tells us of."""
    async with asyncio.timeout(within_s):
        while not claim():  # noqa: ASYNC110 - the market has no event for it
            await asyncio.sleep(0.02)
