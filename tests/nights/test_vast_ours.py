"""What fails alike on every machine is ours: the run stops, says why, and blames no machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from nightkiln.night import STOPPED_EARLY
from nightkiln.store.store import Store
from nightkiln.testing.samples import text_to_image
from nightkiln.testing.vast_market.invariants import broken_promises
from nightkiln.testing.vast_market.scene import VastScene

NOWHERE = "http://127.0.0.1:9"
GB = 10**9
LEASES_MAX = 5  # three that fail alike, and whoever was asked meanwhile
SMALL_USD = Decimal("0.05")
NODE = {"custom_nodes": [{"repo": f"{NOWHERE}/nobody/missing.git", "ref": "v1"}]}


def model(url: str) -> Mapping[str, Any]:
    return {
        "models": [
            {"path": "checkpoints/big.safetensors", "url": url, "gb": 0.001, "sha256": "0" * 64}
        ]
    }


@asynccontextmanager
async def a_file_of(size: int) -> AsyncIterator[str]:
    """An address where a file of ``size`` bytes is said to be."""

    async def announce(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(size)})
        await response.prepare(request)
        if request.method == "GET":
            await asyncio.sleep(60)  # nobody will wait for all of it
        return response

    app = web.Application()
    app.router.add_get("/big.safetensors", announce)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/big.safetensors"
    finally:
        await runner.cleanup()


async def stopped(folder: Path, environment: Mapping[str, Any]) -> str:
    """Run a night that cannot come to anything; what it stopped for."""
    catalog: dict[str, Any] = {"environment": environment}
    if "models" in environment:
        catalog["graph"] = text_to_image(checkpoint="big.safetensors")
    async with VastScene(folder, catalog=catalog) as scene:
        outcome = await scene.run()

        assert outcome.exit_code == STOPPED_EARLY, scene.told()
        assert len(scene.market.ledger()) <= LEASES_MAX, scene.told()
        assert broken_promises(scene.market.truth(), budget=SMALL_USD) == []
    with Store.open(str(folder / "store")).connect() as con:
        assert con.execute("select * from blocklist").fetchall() == []
    return outcome.stop_reason if outcome.stop_reason is not None else ""


@pytest.mark.nights
async def test_a_custom_node_that_nobody_has_stops_the_run(tmp_path: Path) -> None:
    assert "missing" in await stopped(tmp_path, NODE)


@pytest.mark.nights
async def test_a_model_host_that_is_down_stops_the_run(tmp_path: Path) -> None:
    assert "big.safetensors" in await stopped(tmp_path, model(f"{NOWHERE}/big.safetensors"))


@pytest.mark.nights
async def test_a_disk_that_is_too_small_for_the_models_stops_the_run(tmp_path: Path) -> None:
    async with a_file_of(400 * GB) as url:
        assert "disk" in await stopped(tmp_path, model(url))
