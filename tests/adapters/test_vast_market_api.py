"""The simulated market, driven by the real SDK."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import requests
from vastai import VastAI

from nightkiln.testing.vast_market import Rules, VastMarket
from nightkiln.testing.vast_market.samples import quiet_night

FAST = Rules(speed=100.0, limits_scale=0.0)
IMAGE = "vastai/comfy:v0.8.2-cuda-12.9-py312"
QUERY = {
    "num_gpus": {"eq": 1},
    "direct_port_count": {"gte": 4},
    "cpu_arch": {"eq": "amd64"},
    "cuda_max_good": {"gte": 12.8},
    "compute_cap": {"gte": 750},
    "duration": {"gte": 14_400},
}
EVERYWHERE = {"0.0.0.0", "::"}  # noqa: S104 - what Docker shows


class Sdk:
    """The real thing, in threads."""

    def __init__(self, market: VastMarket, key: str | None = None, retry: int = 1) -> None:
        server = market.url
        self._vast = VastAI(
            api_key=key if key is not None else market.key, server_url=server, retry=retry
        )

    async def __call__(self, verb: str, *arguments: Any, **named: Any) -> Any:
        call: Callable[..., Any] = getattr(self._vast, verb)
        return await asyncio.to_thread(partial(call, *arguments, **named))

    async def offers(self, **named: Any) -> list[dict[str, Any]]:
        found = await self(
            "search_offers", query=dict(QUERY), order="dph_total", limit=100, storage=40.0, **named
        )
        assert isinstance(found, list)
        return found

    async def create(self, offer: dict[str, Any], label: str, **named: Any) -> int:
        done = await self(
            "create_instance",
            id=offer["id"],
            image=IMAGE,
            disk=40.0,
            label=label,
            env={"NK_KEY": "ssh-ed25519 AAAA", "-p 22:22": "1"},
            onstart_cmd="true",
            runtype="ssh_direct",
            cancel_unavail=True,
            **named,
        )
        assert done["success"]
        return int(done["new_contract"])


async def test_a_machine_is_found_rented_seen_running_and_given_back() -> None:
    async with VastMarket(quiet_night(), rules=FAST) as market:
        sdk = Sdk(market)
        offer, *_ = await sdk.offers()
        contract = await sdk.create(offer, "nk/main/lease-001")

        market.skip(7_200.0)
        await market.settled()
        [row] = await sdk("show_instances")

        assert row["id"] == contract
        assert row["label"] == "nk/main/lease-001"
        assert row["actual_status"] == "running"
        assert row["extra_env"]["NK_KEY"] == "ssh-ed25519 AAAA"
        assert {entry["HostIp"] for entry in row["ports"]["22/tcp"]} == EVERYWHERE

        assert (await sdk("destroy_instance", contract))["success"]
        market.skip(20.0)
        assert await sdk("show_instances") == []
        assert await sdk("show_instance", contract) is None
        with pytest.raises(requests.HTTPError, match="404"):
            await sdk("destroy_instance", contract)
        assert [one["is_billed"] for one in market.machines()] == [False]


async def test_sixty_machines_are_listed_in_three_pages_and_destroyed_in_one_call() -> None:
    async with VastMarket(quiet_night(), rules=FAST) as market:
        sdk = Sdk(market)
        offers = (await sdk.offers())[:60]
        contracts = [await sdk.create(one, f"nk/main/{n}") for n, one in enumerate(offers)]

        listed = await sdk("show_instances")
        pages = [one for one in market.requests if one.endpoint == "list"]

        assert [row["id"] for row in listed] == contracts
        assert len(pages) == 3
        await sdk("destroy_instance", contracts)
        assert not any(one["is_billed"] for one in market.machines())


async def test_the_account_knows_its_credit_and_its_charges_by_label() -> None:
    async with VastMarket(quiet_night(), rules=FAST) as market:
        sdk = Sdk(market)
        offer, *_ = await sdk.offers()
        contract = await sdk.create(offer, "nk/main/lease-001")
        await sdk("label_instance", contract, "nk/main/lease-002")
        await sdk("destroy_instance", contract)

        charges = await sdk("show_invoices_v1", charges=True, charge_type=["instance"])
        user = await sdk("show_user")

        [charge] = charges["results"]
        [truth] = market.ledger()
        assert charge["metadata"]["label"] == truth["label"] == "nk/main/lease-002"
        assert charge["amount"] == float(round(truth["usd"], 3))
        assert [item["type"] for item in charge["items"]] == ["gpu", "disk", "bwd", "bwu"]
        assert user["credit"] == pytest.approx(25.0 - float(truth["usd"]))
