"""Running ComfyUI servers for which money is asked: what a provider that bills is to a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from nightkiln.core.model import Kind, Need, Offer
from nightkiln.providers.local import LocalProvider

USD_PER_HOUR = Decimal("1.00")


class PricedWorkers(LocalProvider):
    """As ``local``, and everything there has a price."""

    name = "cloud"
    bills = True

    async def offers(self, need: Need, *, limit: int) -> Sequence[Offer]:
        free = await super().offers(need, limit=limit)
        return [replace(offer, usd_per_hour=USD_PER_HOUR, kind=Kind.ON_DEMAND) for offer in free]
