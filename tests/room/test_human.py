"""People have their say, on a real server and a process worker: asked, cancelled, asked again."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from nightkiln.testing.waiting import until
from tests.room.room import ENDED, Room
from tests.room.test_rented import at_the_market, begun, params, rented, results

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.nights,
    pytest.mark.room,
    pytest.mark.timeout_s(600),  # mostly of starting processes, which a busy computer does slowly
]

LITTLE = 0.0001  # every quote is above it
LONG_S = "15"  # a render: the second one is under way, and would be for longer than a cancel takes
ASKED_S_MAX = 120.0


async def is_asked(room: Room, run: str) -> None:
    """Wait until somebody can answer."""
    await until(partial(room.is_in, run, "PAUSED", *ENDED), within_s=ASKED_S_MAX)
    state = await room.state(run)
    assert state["type"] == "PAUSED", (state, room.said("worker"))


async def test_a_run_cancelled_while_it_waits_rents_nothing_and_asks_again_when_retried(
    room: Room, tmp_path: Path
) -> None:
    async with at_the_market(room, tmp_path) as scene:
        run = await room.run("adhoc", {**params(scene), "approve_above_usd": LITTLE})
        await is_asked(room, run)
        await room.cancel(run)
        cancelled = await room.ended(run)
        await room.is_over()
        asked = scene.market.ledger()

        # The Prefect worker says once more that it is cancelled, some seconds after it was.
        await until(lambda: "Cancelled flow run" in room.said("worker"))
        await room.retry(run)
        await is_asked(room, run)
        answer = {"run_input": {"answer": "approve", "cap_usd": float(scene.budget) / 2}}
        accepted = await room.asked(f"/flow_runs/{run}/resume", answer)
        state = await room.ended(run)

        assert cancelled["type"] == "CANCELLED", cancelled
        assert asked == [], "no machine was ordered"
        assert accepted["status"] == "ACCEPT", accepted
        assert state["type"] == "COMPLETED", state
        assert await scene.broken() == []


async def test_a_run_cancelled_at_work_hands_back_what_it_renders_and_its_machine(
    room: Room, tmp_path: Path
) -> None:
    async with at_the_market(room, tmp_path, render_s=LONG_S) as scene:
        run = await begun(room, scene, on_cancel="hand back")
        await room.cancel(run)
        state = await room.ended(run)
        await room.is_over()

        assert state["type"] == "CANCELLED", state
        assert scene.billed() == []
        assert await rented(room) == []
        assert 0 < len(await results(room)) < scene.jobs
