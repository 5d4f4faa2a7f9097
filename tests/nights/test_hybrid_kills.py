"""Controllers that die with calls outstanding at Modal: what is paid for is fetched, once."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from nightkiln.core.terms import Fallback
from nightkiln.night import ALL_DONE
from nightkiln.places import MODAL, VAST
from nightkiln.testing.hybrid import HybridScene
from nightkiln.testing.hybrid.scene import JOB_S
from nightkiln.testing.kills import KILLED, ended
from nightkiln.testing.waiting import until

CALLS, JOBS = 20, 21
START_S_MAX = 100.0  # of twenty processes on a small computer


def tickets(folder: Path) -> int:
    """Calls that the journal knows."""
    lines = [
        json.loads(line)
        for path in (folder / "store").rglob("*.jsonl")
        for line in path.read_text().splitlines()
    ]
    return len([line for line in lines if line.get("kind") == "ticket"])


def are_outstanding(scene: HybridScene, calls: int) -> bool:
    """Whether so many calls are being rendered, and written down."""
    rendering = sum(len(one.submitted) > len(one.renders) for one in scene.behind)
    return rendering >= calls and tickets(scene.folder) >= calls


async def kill_with(scene: HybridScene, calls: int) -> None:
    """Start a controller, and kill it when so many calls are outstanding."""
    process = scene.controller.start()
    try:
        await until(lambda: are_outstanding(scene, calls), within_s=START_S_MAX)
    finally:
        process.send_signal(signal.SIGKILL)
        status, said = await ended(process)
    assert status == KILLED, said


@pytest.mark.long
@pytest.mark.timeout_s(300)
async def test_hybrid_killed_with_twenty_calls_outstanding_nothing_is_rendered_twice(
    tmp_path: Path,
) -> None:
    async with HybridScene(
        tmp_path,
        jobs=JOBS,
        by="45s",  # every slot is wanted
        job_s=3000.0,  # so that the last one renders before the first is done
        fallback=Fallback.ONLY,
        containers=CALLS,
        leases_max=CALLS,
        is_proven=True,
    ) as scene:
        await kill_with(scene, CALLS)

        outcome = await scene.run()

        print(scene.receipt(outcome))
        told = [json.loads(line) for line in scene.told().splitlines()]
        [planned] = [line for line in told if line["event"] == "planned"]
        renders = sum(len(one.renders) for one in scene.behind)
        print(f"fetched    {planned['recalled']} of {CALLS}; {renders} renders for {JOBS} jobs")
        assert outcome.exit_code == ALL_DONE, scene.told()
        assert planned["recalled"] == CALLS
        assert renders == JOBS
        assert await scene.broken() == []


FEW = 4


@pytest.mark.nights
async def test_hybrid_killed_and_then_never_on_modal_what_was_paid_for_is_fetched(
    tmp_path: Path,
) -> None:
    async with HybridScene(
        tmp_path,
        jobs=8,
        by="45s",  # every slot is wanted
        job_s=900.0,
        fallback=Fallback.ONLY,
        containers=FEW,
        leases_max=FEW,
        is_proven=True,
    ) as scene:
        await kill_with(scene, FEW)
        await until(lambda: sum(len(one.renders) for one in scene.behind) == FEW)
        calls = len(list(scene.modal.calls))
        scene.fallback, scene.by, scene.job_s = Fallback.NEVER, "60s", JOB_S

        outcome = await scene.run()

        receipt = scene.receipt(outcome)
        print(receipt)
        told = [json.loads(line) for line in scene.told().splitlines()]
        [planned] = [line for line in told if line["event"] == "planned"]
        assert outcome.exit_code == ALL_DONE, scene.told()
        assert await scene.broken() == []
        assert planned["recalled"] == FEW
        assert sum(len(one.renders) for one in scene.behind) == FEW
        assert len(list(scene.modal.calls)) == calls, "nothing new is spent"
        assert receipt.of(VAST).jobs == 8 - FEW
        assert receipt.of(MODAL).leases == FEW
        assert receipt.of(MODAL).counted_usd >= await scene.last_bill()
