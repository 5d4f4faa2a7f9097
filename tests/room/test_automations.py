"""The shipped automations, on runs that Prefect itself would leave as they are for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from nightkiln.room.asking import PrefectApi
from nightkiln.room.automations import applied
from nightkiln.store.store import Store
from nightkiln.testing.kills import IN_FLIGHT
from nightkiln.testing.promises import broken_promises
from nightkiln.testing.samples import write_catalog
from nightkiln.testing.waiting import until
from tests.room.room import ROOT, Room, rendered

pytestmark = [pytest.mark.prefect, pytest.mark.room]

JOBS = 20
SILENT_S_MAX = 400.0  # 90 s after the last sign of life; a busy server sees it late
STUCK_S_MAX = 800.0  # 540 s after it was taken


@pytest.fixture
def own_room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """Where automations work, which other tests do not reckon with."""
    room = Room(tmp_path_factory.mktemp("room"))
    try:
        asyncio.run(room.open())
        yield room
    finally:
        room.close()


@pytest.mark.long
@pytest.mark.timeout_s(1800)
async def test_runs_that_died_unseen_are_crashed_and_the_batch_goes_on_by_itself(
    own_room: Room, tmp_path: Path
) -> None:
    folder, store = write_catalog(tmp_path / "sample", JOBS), tmp_path / "store"
    room = own_room
    params = {"catalog": str(folder), "store": str(store), "name": "batch"}
    await room.deploy("resume")
    shipped = ROOT / "deploy" / "automations.yaml"
    await asyncio.to_thread(partial(applied, shipped, PrefectApi(f"{room.url}/api"), notify=""))
    async with room.stand_ins(render_s=1.0) as servers:
        silent = await room.run("adhoc", params)
        await until(lambda: rendered(servers) >= 3)
        stuck = await room.run("adhoc", {**params, "name": "never-begun"})
        await until(partial(room.is_in, stuck, "PENDING"))
        room.kill_worker()
        room.kill_flows()
        await room.is_over()
        await room.start_worker()

        seen = await room.ended(silent, within_s=SILENT_S_MAX)
        await until(lambda: rendered(servers) >= JOBS)
        taken = await room.ended(stuck, within_s=STUCK_S_MAX)

    assert "no sign of life" in seen["message"], seen
    assert "never began" in taken["message"], taken
    assert rendered(servers) <= JOBS + IN_FLIGHT
    assert broken_promises(Store.open(str(store)), "batch", jobs=JOBS) == []
