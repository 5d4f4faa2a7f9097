"""The real SDK against the simulated market, and a clock that is set by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import pytest
import requests
from vastai import VastAI

from nightkiln.testing.market import Night
from nightkiln.testing.vast_market import Rules, VastMarket
from nightkiln.testing.vast_market.contract import Contract
from nightkiln.testing.vast_market.samples import quiet_night

IMAGE = "vastai/comfy:v0.8.2-cuda-12.9-py312"
LABEL = "nk/main/lease-001"
QUERY = {
    "num_gpus": {"eq": 1},
    "direct_port_count": {"gte": 4},
    "cpu_arch": {"eq": "amd64"},
    "cuda_max_good": {"gte": 12.8},
    "compute_cap": {"gte": 750},
    "duration": {"gte": 14_400},
}
DISK_GB = 40.0
Row = dict[str, Any]


@dataclass
class Hand:
    """A clock that is set by hand."""

    now_s: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


class Sdk:
    """The real thing, in threads."""

    def __init__(self, market: VastMarket, *, key: str | None = None, retry: int = 1) -> None:
        self.market = market
        api_key = key if key is not None else market.key
        self._vast = VastAI(api_key=api_key, server_url=market.url, retry=retry)
        self._vast.client.timeout = 2.0

    async def __call__(self, verb: str, *arguments: Any, **named: Any) -> Any:
        call: Callable[..., Any] = getattr(self._vast, verb)
        return await asyncio.to_thread(partial(call, *arguments, **named))

    async def offers(self, **named: Any) -> list[Row]:
        found = await self(
            "search_offers",
            query=dict(QUERY),
            order="dph_total",
            limit=100,
            storage=DISK_GB,
            **named,
        )
        assert isinstance(found, list)
        return found

    async def create(self, offer: Row, label: str = LABEL, **named: Any) -> int:
        order = {"image": IMAGE, "disk": DISK_GB, "cancel_unavail": True, **named}
        done = await self(
            "create_instance",
            id=offer["id"],
            label=label,
            env={"NK_KEY": "ssh-ed25519 AAAA"},
            onstart_cmd="true",
            runtype="ssh_direct",
            **order,
        )
        assert done["success"]
        return int(done["new_contract"])

    async def rent(self, label: str = LABEL, **named: Any) -> Contract:
        """A contract on the cheapest machine, on demand."""
        offer, *_ = await self.offers()
        return self.market.exchange.contracts[await self.create(offer, label, **named)]

    async def bid(self, label: str = LABEL, *, times: float = 1.1) -> Contract:
        """A contract on the cheapest machine for so many times the least bid."""
        offer, *_ = await self.offers(type="bid")
        price = offer["min_bid"] * times
        return self.market.exchange.contracts[await self.create(offer, label, bid_price=price)]


@asynccontextmanager
async def driven(
    *faults: str, night: Night | None = None, clock: Hand | None = None, **rules: Any
) -> AsyncIterator[Sdk]:
    """A market in which nothing goes wrong but these faults, at no rate limits."""
    given: dict[str, Any] = {"faults": faults, "limits_scale": 0.0, **rules}
    if clock is not None:
        given["now"] = clock
    quiet = night if night is not None else quiet_night()
    async with VastMarket(quiet, rules=Rules(**given)) as market:
        yield Sdk(market)


async def asked(market: VastMarket, method: str, path: str, **named: Any) -> httpx.Response:
    """A plain request, as curl would make it."""
    async with httpx.AsyncClient() as client:
        return await client.request(method, market.url + path, **named)


def answer(raised: pytest.ExceptionInfo[requests.HTTPError]) -> requests.Response:
    """What the service said that made the SDK raise."""
    assert raised.value.response is not None
    return raised.value.response


def until_ready(contract: Contract) -> float:
    """Seconds of the story from now until it renders, and a little more."""
    return contract.fate.ready_s + 1.0
