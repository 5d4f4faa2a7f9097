"""A machine rented at the simulated market with the real SDK, and what is behind it."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import asyncssh
import httpx
import pytest
from vastai import VastAI

from nightkiln.machine.scripts import start_script
from nightkiln.testing.vast_machine import leash
from nightkiln.testing.vast_market import Rules, VastMarket
from nightkiln.testing.vast_market.samples import quiet_night
from nightkiln.testing.vast_market.ssh_body import SshBodies
from nightkiln.testing.waiting import until

FAST = Rules(speed=200.0, limits_scale=0.0)
KEY = asyncssh.generate_private_key("ssh-ed25519")


async def rent(market: VastMarket, **env: str) -> int:
    """Rent the first offer there is; its contract."""
    vast = VastAI(api_key=market.key, server_url=market.url, retry=1)
    query = {"num_gpus": {"eq": 1}, "cuda_max_good": {"gte": 12.8}}
    offers = await asyncio.to_thread(vast.search_offers, query=query, storage=40.0)
    variables = {"NK_KEY": KEY.export_public_key().decode().strip(), "NK_API": market.url}
    variables |= {"NK_LIFE_S": "3600", "NK_QUIET_S": "900", "NK_TICK_S": "0.1", "-p 22:22": "1"}
    create = partial(
        vast.create_instance,
        id=offers[0]["id"],
        image="vastai/comfy:v0.8.2-cuda-12.9-py312",
        disk=40.0,
        label="nk/main/night-1-lease-001",
        env=variables | env,
        onstart_cmd=start_script(),
        runtype="ssh_direct",
        cancel_unavail=True,
    )
    return int((await asyncio.to_thread(create))["new_contract"])


async def seen(market: VastMarket, contract: int) -> dict[str, Any]:
    """Its row in the market's truth."""
    await market.settled()
    [row] = [one for one in market.machines() if one["contract"] == contract]
    return dict(row)


async def ssh_port(market: VastMarket, contract: int) -> int:
    async def is_known() -> bool:
        return (await seen(market, contract))["ssh_port"] is not None

    market.skip(7_200.0)
    await until(is_known)
    return int((await seen(market, contract))["ssh_port"])


async def test_what_is_rented_renders_and_is_gone_when_given_back(tmp_path: Path) -> None:
    bodies = SshBodies(tmp_path)
    async with bodies, VastMarket(quiet_night(), rules=FAST, bodies=bodies) as market:
        contract = await rent(market)
        port = await ssh_port(market, contract)

        async def greets() -> bool:
            try:
                async with asyncssh.connect(
                    "127.0.0.1",
                    port,
                    config=None,
                    known_hosts=None,
                    username="root",
                    client_keys=[KEY],
                    agent_path=None,
                ) as connection:
                    path = "http://127.0.0.1:{}/system_stats"
                    listener = await connection.forward_local_port(
                        "127.0.0.1", 0, "127.0.0.1", 18188
                    )
                    async with httpx.AsyncClient(trust_env=False) as client:
                        reply = await client.get(path.format(listener.get_port()))
            except (asyncssh.Error, httpx.TransportError):
                return False
            return reply.is_success

        await until(greets)
        vast = VastAI(api_key=market.key, server_url=market.url, retry=1)
        await asyncio.to_thread(vast.destroy_instance, contract)
        await market.settled()

        assert not leash.marked(bodies.mark)
        assert not list(tmp_path.iterdir())  # and its disk is gone


async def test_a_machine_that_is_left_alone_deletes_itself_at_the_service(tmp_path: Path) -> None:
    bodies = SshBodies(tmp_path)
    async with bodies, VastMarket(quiet_night(), rules=FAST, bodies=bodies) as market:
        contract = await rent(market, NK_QUIET_S="1")
        await ssh_port(market, contract)

        async def is_free() -> bool:
            return not (await seen(market, contract))["is_billed"]

        await until(is_free)

        [asked] = [one for one in market.requests if one.endpoint == "destroy"]
        assert asked.status == 200
        await until(lambda: not leash.marked(bodies.mark))


@pytest.mark.parametrize("answer", ["destroy_429@1x3", "destroy_500@1x2", "destroy_lie@1"])
async def test_neither_refusals_nor_a_lie_keep_it(answer: str, tmp_path: Path) -> None:
    rules = Rules(speed=200.0, limits_scale=0.0, faults=(answer,))
    async with (
        SshBodies(tmp_path) as bodies,
        VastMarket(quiet_night(), rules=rules, bodies=bodies) as market,
    ):
        contract = await rent(market, NK_QUIET_S="1")
        await ssh_port(market, contract)

        async def is_free() -> bool:
            return not (await seen(market, contract))["is_billed"]

        await until(is_free)
