"""A Prefect server that is away, late, or comes back with an older database: no result minds."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from nightkiln.store.store import Store
from nightkiln.testing.promises import broken_promises
from nightkiln.testing.samples import write_catalog
from nightkiln.testing.waiting import until
from tests.room.room import Room, claim_of, rendered

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.nights,
    pytest.mark.room,
    pytest.mark.timeout_s(600),  # mostly of starting processes, which a busy computer does slowly
]

JOBS = 20
RENDER_S = 0.3
LONG_S = 600.0  # that a picture takes: whoever renders does so until it is stopped
OUTAGE_S = 300
DUE_S = 6.0  # from now: by then the server is gone
EXIT_CODE = "select exit_code from batches"


async def said(room: Room, *command: str) -> str:
    """What a command prints on the Prefect worker's computer, with or without a server."""
    done = await asyncio.to_thread(room.nightkiln, *command)
    assert done.returncode == 0, done.stdout
    return done.stdout


async def exit_code(room: Room, store: Path) -> Any:
    """How the only run of a store has ended, as its record says: the receipt is made from it."""
    told = await said(room, "query", EXIT_CODE, "--store", str(store), "--json")
    return json.loads(told)["exit_code"]


async def test_rendering_goes_on_without_a_server_that_comes_back_with_an_older_database(
    room: Room, tmp_path: Path
) -> None:
    """The one that comes back has never heard of the run."""
    folder, store = write_catalog(tmp_path / "sample", JOBS), tmp_path / "store"
    older = room.copy_of_database()
    async with room.stand_ins(render_s=RENDER_S) as servers:
        params = {"catalog": str(folder), "store": str(store), "name": "batch"}
        forgotten = await room.run("adhoc", params)
        await until(lambda: rendered(servers) >= 3)
        room.kill_server()
        await until(lambda: rendered(servers) == JOBS)
        room.put_back(older)
        await room.start_server()
        await room.is_over()

        assert await room.state(forgotten) == {}
        assert await exit_code(room, store) == 0
        state = await room.ended(await room.run("adhoc", params))

    assert state["type"] == "COMPLETED", state
    assert rendered(servers) == JOBS
    assert broken_promises(Store.open(str(store)), "batch", jobs=JOBS) == []


async def test_a_run_that_no_server_can_cancel_is_ended_by_nightkiln_stop(
    room: Room, tmp_path: Path
) -> None:
    folder, store = write_catalog(tmp_path / "sample", 4), tmp_path / "store"
    async with room.stand_ins(render_s=LONG_S) as servers:
        params = {"catalog": str(folder), "store": str(store), "name": "batch"}
        await room.run("adhoc", params)
        await until(lambda: any(server.submitted for server in servers))
        room.kill_server()

        await said(room, "stop", "batch", "--now", "--store", str(store))
        await until(lambda: has_ended(store))
        await room.start_server()
        await room.is_over()

    assert await exit_code(room, store) == 3
    assert all(render.ending == "execution_interrupted" for s in servers for render in s.renders)


async def test_a_run_that_is_due_while_the_server_is_down_is_late_and_not_lost(
    room: Room, tmp_path: Path
) -> None:
    """And who does not want to wait needs no server."""
    folder, store = write_catalog(tmp_path / "sample", 4), tmp_path / "store"
    due = datetime.now(UTC) + timedelta(seconds=DUE_S)
    state = {"type": "SCHEDULED", "state_details": {"scheduled_time": due.isoformat()}}
    async with room.stand_ins() as servers:
        params = {"catalog": str(folder), "store": str(store), "name": "late"}
        late = await room.run("adhoc", params, state=state)
        room.kill_server()
        by_hand = ("run", str(folder), "--store", str(tmp_path / "by-hand"), "--name", "by-hand")
        await said(room, *by_hand)
        await until(lambda: datetime.now(UTC) > due)
        assert rendered(servers) == 4

        await room.start_server()
        ended = await room.ended(late)

    assert ended["type"] == "COMPLETED", ended
    assert rendered(servers) == 8
    assert room.has_worker()


async def test_a_run_whose_server_goes_while_it_is_being_started_says_so_and_can_be_retried(
    room: Room, tmp_path: Path
) -> None:
    folder, store = write_catalog(tmp_path / "sample", 4), tmp_path / "store"
    async with room.stand_ins() as servers:
        params = {"catalog": str(folder), "store": str(store), "name": "batch"}
        run = await room.run("adhoc", params)
        await until(room.flows)  # a process that has yet to ask what it is to run
        room.kill_server()
        await room.is_over()
        await room.start_server()
        state = await room.ended(run)
        await room.retry(run)
        await until(lambda: rendered(servers) == 4)
        retried = await room.ended(run)

    assert state["type"] == "CRASHED", state
    assert "exited with non-zero status code 1" in state["message"]
    assert retried["type"] == "COMPLETED", retried


@pytest.mark.long
@pytest.mark.timeout_s(900)
async def test_five_minutes_without_a_server_and_a_cancellation_that_nobody_hears(
    room: Room, tmp_path: Path
) -> None:
    """Rendering goes on all the time, and ``nightkiln stop`` ends what the UI may not reach."""
    folder, store = write_catalog(tmp_path / "sample", 4 * OUTAGE_S), tmp_path / "store"
    async with room.stand_ins(render_s=1.0) as servers:
        params = {"catalog": str(folder), "store": str(store), "name": "batch"}
        run = await room.run("nightly", params)
        await until(lambda: rendered(servers) >= 3)
        room.kill_server()
        before, since_s = rendered(servers), time.monotonic()
        await until(lambda: time.monotonic() - since_s > OUTAGE_S, within_s=2 * OUTAGE_S)
        made = rendered(servers) - before
        await room.start_server()
        await room.cancel(run)
        await said(room, "stop", "batch", "--store", str(store))
        await until(lambda: has_ended(store))
        state = await room.ended(run)

    assert state["type"] == "CANCELLED", state
    assert made > OUTAGE_S, "two workers, a picture a second each"
    assert await exit_code(room, store) == 3
    with Store.open(str(store)).connect() as con:
        [(done,)] = con.execute("select count(*) from jobs where status = 'done'").fetchall()
    assert done == rendered(servers)


def has_ended(store: Path) -> bool:
    """Whether the run has written down how it ended."""
    claim = claim_of(store, "batch")
    return claim is not None and claim.ended is not None
