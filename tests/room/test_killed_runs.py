"""Runs that are killed, alone or with the Prefect worker: nothing is lost or made twice."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from nightkiln.store.claims import claimed_batches
from nightkiln.store.store import Store
from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.kills import IN_FLIGHT
from nightkiln.testing.promises import broken_promises
from nightkiln.testing.samples import write_catalog
from nightkiln.testing.waiting import until
from tests.room.room import Room, kill_run, rendered

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.nights,
    pytest.mark.room,
    pytest.mark.timeout_s(600),  # mostly of starting processes, which a busy computer does slowly
]

JOBS = 20
RENDER_S = 0.3
DEAD, FOLLOWING = "sample-2026-11-21", "sample-2026-11-22"


def some(servers: Sequence[StandIn]) -> bool:
    """Whether it is the middle of a run."""
    return rendered(servers) >= JOBS // 4


@pytest.mark.parametrize(
    ("number", "ends", "in_flight"),
    [
        pytest.param(signal.SIGTERM, "CANCELLED", 0, id="SIGTERM"),  # it ends in order
        pytest.param(signal.SIGKILL, "CRASHED", IN_FLIGHT, id="SIGKILL"),
    ],
)
async def test_a_night_that_is_killed_is_retried_and_renders_only_what_is_missing(
    number: signal.Signals, ends: str, in_flight: int, room: Room, tmp_path: Path
) -> None:
    folder, store = write_catalog(tmp_path / "sample", JOBS), tmp_path / "store"
    async with room.stand_ins(render_s=RENDER_S) as servers:
        run = await room.run("nightly", {"catalog": str(folder), "store": str(store)})
        await until(lambda: some(servers))
        [night] = claimed_batches(Store.open(str(store)).blobs)
        kill_run(store, night, number)
        killed = await room.ended(run)
        await room.retry(run)
        await until(lambda: rendered(servers) >= JOBS)
        retried = await room.ended(run)

    assert killed["type"] == ends, killed
    assert retried["type"] == "COMPLETED", retried
    assert rendered(servers) <= JOBS + in_flight
    assert claimed_batches(Store.open(str(store)).blobs) == [night]
    assert broken_promises(Store.open(str(store)), night, jobs=JOBS) == []


async def test_the_following_night_starts_though_one_killed_with_its_worker_still_says_running(
    room: Room, tmp_path: Path
) -> None:
    """It is another batch, which takes from the store what the dead one has committed."""
    folder, store = write_catalog(tmp_path / "sample", JOBS), tmp_path / "store"
    params = {"catalog": str(folder), "store": str(store)}
    async with room.stand_ins(render_s=RENDER_S) as servers:
        dead = await room.run("nightly", {**params, "name": DEAD})
        await until(lambda: some(servers))
        room.kill_worker()
        kill_run(store, DEAD, signal.SIGKILL)
        await room.is_over()
        await room.start_worker()
        for server in servers:
            await server.idle()
        before, committed = rendered(servers), done_in(store)

        state = await room.ended(await room.run("nightly", {**params, "name": FOLLOWING}))
        left = await room.state(dead)

    assert left["type"] == "RUNNING", left  # nobody has told the server
    assert state["type"] == "COMPLETED", state
    assert rendered(servers) == before + JOBS - committed
    assert done_in(store) == JOBS
    assert broken_promises(Store.open(str(store)), FOLLOWING, jobs=JOBS) == []


def done_in(store: Path) -> int:
    """Jobs with a result in a store."""
    with Store.open(str(store)).connect() as con:
        [(count,)] = con.execute("select count(distinct job_id) from jobs").fetchall()
    return int(count)
