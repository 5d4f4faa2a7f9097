"""Runs that rent machines, killed with all of Prefect: nothing is lost, and nothing stays rented.

The market is simulated; SDK, SSH, settings and deployments are the real ones.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nightkiln.lease_book import LeaseBook
from nightkiln.testing.vast_market.controller import BATCH
from nightkiln.testing.vast_market.scene import VastScene
from nightkiln.testing.waiting import until
from tests.room.room import ENDED, Room, kill_run

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.nights,
    pytest.mark.room,
    pytest.mark.timeout_s(600),  # mostly of starting processes, which a busy computer does slowly
]

JOBS = 12
BEGUN_S_MAX = 300.0  # a process starts, quotes, rents and loads; on a busy computer all of it waits
RENDER_S = "0.5"
USUAL_S = 900.0  # for which a machine waits for its run
DEADMAN_S = 180.0  # the shortest that may be set
AGO_S = 2 * USUAL_S
GONE_S_MAX = 60.0  # after the dead-man's time, until the machine has deleted itself


@asynccontextmanager
async def at_the_market(
    room: Room, folder: Path, *, render_s: str = RENDER_S, deadman_s: float = USUAL_S
) -> AsyncIterator[VastScene]:
    """An account at a market that the Prefect worker and the command line both know."""
    async with (
        VastScene(folder, jobs=JOBS, options=("--render-s", render_s)) as scene,
        room.set_up(
            NIGHTKILN_VAST_URL=scene.market.url,
            NIGHTKILN_VAST_API_KEY=scene.market.key,
            NIGHTKILN_STATE=str(folder / "state"),
            NIGHTKILN_STORE=str(folder / "store"),
            NIGHTKILN_DEADMAN_S=str(deadman_s),
        ),
    ):
        yield scene


async def begun(room: Room, scene: VastScene, **more: Any) -> str:
    """A run that has rented a machine and got its first pictures; ``more`` than ``params``."""
    run = await room.run("adhoc", {**params(scene), **more})

    async def is_at_work_or_over() -> bool:
        return has_pictures(scene) or await room.is_in(run, *ENDED)

    await until(is_at_work_or_over, within_s=BEGUN_S_MAX)
    assert scene.billed(), (await room.state(run), room.said("worker"))
    return run


def params(scene: VastScene) -> dict[str, Any]:
    return {
        "catalog": str(scene.folder / "catalog"),
        "name": BATCH,
        "providers": ["vast"],
        "budget": float(scene.budget),
        "by": "1h",
    }


def has_pictures(scene: VastScene) -> bool:
    return any((scene.folder / "store").glob("images/*/*/*"))


async def said(room: Room, *command: str) -> list[dict[str, Any]]:
    """What a command prints as JSON lines, whatever becomes of Prefect."""
    done = await asyncio.to_thread(room.nightkiln, *command, "--json")
    assert done.returncode == 0, done.stdout
    return [json.loads(line) for line in done.stdout.splitlines()]


async def rented(room: Room) -> list[tuple[str, bool]]:
    """Every lease that ``nightkiln leases`` tells of, and whether it is billed."""
    return [(one["lease_id"], one["is_billed"]) for one in await said(room, "leases")]


async def results(room: Room) -> list[dict[str, Any]]:
    """What ``nightkiln query`` says of every result."""
    return await said(room, "query", "select job_id, uri from outputs order by all")


@pytest.mark.long  # tests/flows has the same without processes
async def test_a_run_that_is_told_to_end_gives_its_machine_back(room: Room, tmp_path: Path) -> None:
    async with at_the_market(room, tmp_path) as scene:
        run = await begun(room, scene)
        kill_run(tmp_path / "store", BATCH, signal.SIGTERM)
        state = await room.ended(run)

        assert state["type"] == "CANCELLED", state
        await until(lambda: not scene.billed(), within_s=5)
        assert await rented(room) == []


async def test_without_its_database_prefect_starts_anew_and_no_result_and_no_money_is_lost(
    room: Room, tmp_path: Path
) -> None:
    """Flow, Prefect worker and server die in the middle of a run, and the database with them."""
    async with at_the_market(room, tmp_path) as scene:
        await begun(room, scene)
        room.kill_server()
        room.kill_worker()
        room.kill_flows()
        leases, before = await rented(room), await results(room)
        assert leases == [(f"{BATCH}-1-lease-000", True)]

        room.delete_database()
        assert (await rented(room), await results(room)) == (leases, before)
        await room.start_server()
        await room.deploy()
        await room.start_worker()
        state = await room.ended(await room.run("adhoc", params(scene)))

        assert state["type"] == "COMPLETED", state
        assert await rented(room) == []
        assert len(await results(room)) == JOBS
        assert len(scene.market.ledger()) == 1, "the warm machine was given away"
        assert await scene.broken() == []


async def test_what_a_dead_run_holds_is_given_back_by_the_deployment_that_reaps(
    room: Room, tmp_path: Path
) -> None:
    async with at_the_market(room, tmp_path) as scene:
        run = await killed_with_its_worker(room, scene)
        let_pass(LeaseBook(tmp_path / "state"), AGO_S)

        swept = await room.ended(await room.run("reap", {}))

        assert swept["type"] == "COMPLETED", swept
        assert swept["message"].startswith("1 given back"), swept
        assert scene.billed() == []
        assert await rented(room) == []
        [lease] = await said(room, "query", "select lease_id, reason from leases")
        assert "its run is silent for" in lease["reason"]
        assert (await room.state(run))["type"] == "RUNNING"  # Prefect has not even noticed


@pytest.mark.long
@pytest.mark.timeout_s(600)
async def test_what_a_dead_run_holds_ends_itself_when_nobody_comes(
    room: Room, tmp_path: Path
) -> None:
    async with at_the_market(room, tmp_path, deadman_s=DEADMAN_S) as scene:
        await killed_with_its_worker(room, scene)
        room.kill_server()

        await until(lambda: not scene.billed(), within_s=DEADMAN_S + GONE_S_MAX)

        await room.mended()  # minutes without a server may have ended the Prefect worker, too
        state = await room.ended(await room.run("adhoc", params(scene)))
        assert state["type"] == "COMPLETED", state
        assert await scene.broken() == []


async def killed_with_its_worker(room: Room, scene: VastScene) -> str:
    """A run that died with its Prefect worker; there is a new one already."""
    run = await begun(room, scene)
    room.kill_worker()
    room.kill_flows()
    await room.is_over()
    assert scene.billed()
    await room.start_worker()
    return run


def let_pass(book: LeaseBook, seconds: float) -> None:
    """Let it have been so long ago that a run wrote into its book."""
    for owner in book.owners():
        book.alive(replace(owner, alive_s=owner.alive_s - seconds))
    for entry in book.entries():
        book.taken_over(replace(entry, asked_s=entry.asked_s - seconds))
