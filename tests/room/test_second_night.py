"""Nights due at once, on a real server and a Prefect worker: one renders, the others say why."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from nightkiln.nights import last_turn
from nightkiln.store.store import Store
from nightkiln.testing.samples import write_catalog
from nightkiln.testing.waiting import until
from tests.room.room import Room

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.nights,
    pytest.mark.room,
    pytest.mark.timeout_s(600),  # mostly of starting processes, which a busy computer does slowly
]

FIRST, SECOND = "sample-2026-11-21", "sample-2026-11-22"
LONG_S = 600.0  # that a picture takes: whoever renders does so until it is stopped
REFUSED = "nightkiln.night.refused"


async def test_of_nights_due_at_once_one_renders_and_the_others_are_cancelled_and_somebody_is_told(
    room: Room, tmp_path: Path
) -> None:
    """By their dates two of them are not even the same batch."""
    folder, store = write_catalog(tmp_path / "sample", 4), tmp_path / "store"
    params = {"catalog": str(folder), "store": str(store)}
    async with room.stand_ins(render_s=LONG_S):
        nights = [
            await room.run("nightly", {**params, "name": name}) for name in (FIRST, SECOND, FIRST)
        ]
        await until(partial(room.are_in, nights, "CANCELLED", count=2))
        turn = last_turn(Store.open(str(store)).blobs, "sample")
        assert turn is not None
        at_work = turn.batch
        stopped = await asyncio.to_thread(
            room.nightkiln, "stop", at_work, "--now", "--store", str(store)
        )
        assert stopped.returncode == 0, stopped.stdout
        states = [await room.ended(night) for night in nights]

    assert [state["type"] for state in states] == ["CANCELLED"] * 3, states
    said = [state["message"] for state in states]
    [ended] = [each for each in said if "stopped by 'nightkiln stop'" in each]
    refusals = [each for each in said if each != ended]
    assert all(f"nightkiln stop {at_work}" in refusal for refusal in refusals), refusals
    assert any("another night of catalog 'sample' is at work" in each for each in refusals)
    await until(partial(room.has_events, REFUSED, count=2))
    told = await room.events(REFUSED)
    assert {event["payload"]["why"] for event in told} == set(refusals)
