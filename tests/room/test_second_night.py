"""Two nights due at once, on a real server and a Prefect worker: one renders, one says why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightkiln.testing.samples import write_catalog
from nightkiln.testing.waiting import until
from tests.room.room import Room, rendered

pytestmark = [pytest.mark.prefect, pytest.mark.nights]

JOBS = 30


async def test_of_two_nights_due_at_once_one_renders_and_the_other_is_cancelled_and_says_why(
    room: Room, tmp_path: Path
) -> None:
    """By their dates two batches, so not even the batch is one that only one could have."""
    folder, store = write_catalog(tmp_path / "sample", JOBS), tmp_path / "store"
    async with room.stand_ins(render_s=0.2) as servers:
        nights = [
            await room.run("nightly", {"catalog": str(folder), "store": str(store), "name": name})
            for name in ("sample-2026-11-21", "sample-2026-11-22")
        ]
        states = [await room.ended(night) for night in nights]

    assert sorted(state["type"] for state in states) == ["CANCELLED", "COMPLETED"], states
    [refused] = [state for state in states if state["type"] == "CANCELLED"]
    assert "another night of catalog 'sample' is at work" in refused["message"]
    assert "nightkiln stop sample-2026-11-2" in refused["message"]
    assert rendered(servers) == JOBS


async def test_the_same_night_twice_is_refused_as_well(room: Room, tmp_path: Path) -> None:
    folder, store = write_catalog(tmp_path / "sample", JOBS), tmp_path / "store"
    params = {"catalog": str(folder), "store": str(store)}
    async with room.stand_ins(render_s=0.3) as servers:
        first = await room.run("nightly", params)
        await until(lambda: rendered(servers) >= 1)
        second = await room.ended(await room.run("nightly", params))
        state = await room.ended(first)

    assert state["type"] == "COMPLETED", state
    assert second["type"] == "CANCELLED", second
    assert "is being worked on by" in second["message"]
    assert rendered(servers) == JOBS
