"""Machines of the simulated market, rented by the provider and reached over real SSH."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from nightkiln.core.errors import WorkerLost
from nightkiln.core.model import AttemptId, BoundJob, JobId, Loss
from nightkiln.ports.worker import Rendered, Worker
from nightkiln.providers.vast import VastProvider
from nightkiln.testing.samples import text_to_image
from nightkiln.testing.vast_market import Rules, VastMarket
from nightkiln.testing.vast_market.controller import ARRIVAL
from nightkiln.testing.vast_market.samples import quiet_night
from nightkiln.testing.vast_market.ssh_body import SshBodies
from tests.adapters.vast_world import (
    HASTY,
    LIFE_S,
    NEED,
    TERMS,
    alive,
    calls,
    lease_id,
    rented,
    until,
)

ATTEMPT = AttemptId("night-1-0000001")
TRIES_MAX = 5
PATIENT = replace(HASTY, offline_s=10.0, stopping_s=5.0)


@asynccontextmanager
async def a_place(folder: Path, *faults: str) -> AsyncIterator[tuple[VastMarket, VastProvider]]:
    rules = Rules(speed=100.0, limits_scale=0.0, faults=faults, strikes_s=300.0)
    terms = replace(TERMS, limits=PATIENT, deadman_s=30.0)  # so it hears a heartbeat often
    async with (
        SshBodies(folder / "machines") as bodies,
        VastMarket(quiet_night(), rules=rules, bodies=bodies) as market,
        VastProvider(
            market.key, replace(terms, url=market.url), state=folder / "state", arrival=ARRIVAL
        ) as provider,
    ):
        yield market, provider


def job(seed: int = 1) -> BoundJob:
    graph = text_to_image()
    graph["5"]["inputs"]["seed"] = seed
    return BoundJob(id=JobId(f"{seed:064x}"), graph=graph)


async def test_a_rented_machine_renders_and_is_given_back(tmp_path: Path) -> None:
    async with a_place(tmp_path) as (market, provider):
        lease = await rented(provider)
        async with provider.connect(lease) as worker:
            rendered = await worker.result(await worker.submit(job(), ATTEMPT))
            picture = tmp_path / "picture"
            await rendered.outputs[0].save(picture)
            assert worker.loading_s > 0
        await provider.release([lease.id])

        assert picture.read_bytes().startswith(b"\x89PNG")
        assert alive(market) == []
        assert not list((tmp_path / "state" / "pins").iterdir()), "its host key is forgotten"


@pytest.mark.nights
@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("wrong_gpu", "another GPU than offered"),
        ("cuda_old", "older than CUDA 12.8"),
        ("small_disk", "a smaller disk than was rented"),
        ("busy_card", "another tenant is on the card"),
    ],
)
async def test_a_machine_that_is_not_what_was_rented_gets_no_job(
    tmp_path: Path, fault: str, why: str
) -> None:
    async with a_place(tmp_path, fault) as (market, provider):
        lease = await rented(provider)
        with pytest.raises(WorkerLost, match=why) as caught:
            async with provider.connect(lease):
                pytest.fail("it is let in")
        await provider.release([lease.id])

        assert caught.value.loss is Loss.STARTUP
        assert alive(market) == []


@pytest.mark.nights
async def test_renting_again_lets_a_machine_live_longer(tmp_path: Path) -> None:
    async with a_place(tmp_path) as (market, provider):
        lease = await rented(provider)
        async with provider.connect(lease):
            left = next((tmp_path / "machines").rglob(".nightkiln/left"))
            later_s = LIFE_S * 2 + provider._clock()

            same = await provider.rent(lease.offer, lease.id, NEED, expires_at_s=later_s)

            await until(lambda: int(left.read_text().split()[0]) > LIFE_S * 1.5, within_s=60)
        await provider.release([lease.id])

    assert same == lease
    assert calls(market, "create") == 1


async def test_whoever_waits_for_a_job_hears_at_once_that_the_machine_was_outbid(
    tmp_path: Path,
) -> None:
    async with a_place(tmp_path) as (market, provider):
        lease = await rented(provider)
        [machine] = market.exchange.contracts.values()

        async def wait_for_a_job() -> None:
            async with provider.connect(lease):
                market.exchange.lives.outbid(machine)
                await asyncio.sleep(60)

        with pytest.raises(WorkerLost) as caught:
            await wait_for_a_job()

        assert caught.value.loss is Loss.MARKET
        await until(lambda: alive(market) == [])


async def rendered_at_last(worker: Worker) -> Rendered:
    """A job's result, also where the first one goes to the ComfyUI that is about to end."""
    for number in range(TRIES_MAX):
        with contextlib.suppress(WorkerLost):
            attempt = AttemptId(f"{ATTEMPT}-{number}")
            return await worker.result(await worker.submit(job(2), attempt))
    raise AssertionError("no ComfyUI ever rendered it")


@pytest.mark.nights
async def test_a_machine_that_comes_back_under_another_port_goes_on(tmp_path: Path) -> None:
    async with a_place(tmp_path, "moves") as (market, provider):
        lease = await rented(provider)
        [machine] = market.exchange.contracts.values()
        async with provider.connect(lease) as worker:
            assert machine.inside is not None
            before = machine.inside.port
            market.exchange.lives.reboot(machine)
            await until(lambda: machine.status == "running" and machine.shows_ports)
            rendered = await rendered_at_last(worker)

            assert rendered.outputs
            assert machine.inside.port != before
        await provider.release([lease_id(0)])
