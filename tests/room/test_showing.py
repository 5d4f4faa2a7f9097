"""What one sees of a run while Prefect's server is there, away, and back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nightkiln.store.store import Store
from nightkiln.testing.samples import write_catalog
from nightkiln.testing.waiting import until
from tests.room.room import ASK_S, Room, rendered

pytestmark = [pytest.mark.prefect, pytest.mark.nights, pytest.mark.room]

JOBS = 3000  # more than are rendered before somebody stops it
RENDER_S = 0.1
BEFORE, AWAY = 60, 120  # renders with the server, and then without it
PACE_MIN = 0.5  # of what it was, on a computer that has other things to do


async def artifacts(room: Room, run: str) -> Mapping[str, Mapping[str, Any]]:
    """What a run shows, by key; each key once."""
    wanted = {"flow_runs": {"id": {"any_": [run]}}}
    found = await room.asked("/artifacts/filter", wanted)
    by_key = {one["key"]: one for one in found}
    assert len(by_key) == len(found), "an artifact was made twice"
    return by_key


async def percent(room: Room, run: str) -> float:
    """How far the bar has come; 0: there is none yet."""
    await asyncio.sleep(ASK_S)
    bar = (await artifacts(room, run)).get("nightkiln-progress")
    return float(bar["data"]) if bar is not None else 0.0


async def is_beyond(room: Room, run: str, seen: float) -> bool:
    """Whether the bar has come further than that."""
    return await percent(room, run) > seen


async def lines(room: Room, run: str) -> Sequence[Mapping[str, Any]]:
    """The log of a run and of its task runs."""
    wanted = {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200}
    found: list[Mapping[str, Any]] = await room.asked("/logs/filter", wanted)
    return found


def settled_at(store: Path) -> list[float]:
    """When jobs were done, in epoch seconds, in order."""
    ask = "select epoch_us(finished_at) / 1e6 from jobs where status = 'done' order by 1"
    with Store.open(str(store)).connect("jobs") as con:
        return [at_s for (at_s,) in con.execute(ask).fetchall()]


def now_s() -> float:
    return datetime.now(UTC).timestamp()


async def test_rendering_keeps_its_pace_without_a_server_and_the_artifacts_catch_up(
    room: Room, tmp_path: Path
) -> None:
    folder, store = write_catalog(tmp_path / "sample", JOBS), tmp_path / "store"
    async with room.stand_ins(render_s=RENDER_S) as servers:
        params = {"catalog": str(folder), "store": str(store), "name": "batch"}
        run = await room.run("adhoc", params)
        await until(partial(is_beyond, room, run, 0.0), within_s=120)
        await until(lambda: rendered(servers) >= BEFORE)
        seen = await percent(room, run)

        gone_s = now_s()
        room.kill_server()
        at_first = rendered(servers)
        await until(lambda: rendered(servers) >= at_first + AWAY)
        back_s = now_s()

        await room.start_server()
        await until(partial(is_beyond, room, run, seen), within_s=120)
        stopped = await asyncio.to_thread(room.nightkiln, "stop", "batch", "--store", str(store))
        assert stopped.returncode == 0, stopped.stdout
        await room.is_over()

    done = settled_at(store)
    before = sum(at_s < gone_s for at_s in done) / (gone_s - done[0])
    away = sum(gone_s <= at_s < back_s for at_s in done) / (back_s - gone_s)
    assert away > PACE_MIN * before
    shown = await artifacts(room, run)
    pages = ("progress", "fleet", "receipt", "gallery")
    assert set(shown) == {f"nightkiln-{page}" for page in pages}
    assert shown["nightkiln-progress"]["data"] == pytest.approx(100 * len(done) / JOBS, abs=0.1)
    assert shown["nightkiln-fleet"]["data"].startswith("2 released\n")
    assert f"{len(done):,} of {JOBS:,} jobs done" in shown["nightkiln-receipt"]["data"]
    assert "stopped by 'nightkiln stop'" in shown["nightkiln-receipt"]["data"]


async def test_a_lease_has_its_own_log_and_that_of_the_library_arrives_too(
    room: Room, tmp_path: Path
) -> None:
    folder, store = write_catalog(tmp_path / "sample", 4), tmp_path / "store"
    async with room.stand_ins() as servers:
        params = {"catalog": str(folder), "store": str(store), "name": "batch"}
        run = await room.run("adhoc", params)
        await room.ended(run)
        host = servers[0].url.removeprefix("http://")

        async def has_arrived() -> bool:
            await asyncio.sleep(ASK_S)
            return any("is released" in line["message"] for line in await lines(room, run))

        await until(has_arrived)

    told = await lines(room, run)
    of_lease = [one for one in told if f"{host} is ready" in one["message"]]
    assert [one["task_run_id"] is not None for one in of_lease] == [True]
    claimed = [one for one in told if one["message"] == "batch batch is claimed by run 1"]
    assert [(one["name"], one["level"]) for one in claimed] == [("nightkiln.nights", 20)]
    assert json.dumps(told).count("jobs done") <= 20
