"""Nights on rented machines with Modal behind them, through both real SDKs; each has a receipt."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from math import floor
from pathlib import Path
from typing import Any

import pytest

from nightkiln.catalog.catalog import Environment
from nightkiln.core.model import LeaseId
from nightkiln.night import ALL_DONE, Outcome
from nightkiln.places import MODAL, VAST
from nightkiln.providers.vast.labels import label_of
from nightkiln.store.store import Store
from nightkiln.testing.hybrid import HybridScene
from nightkiln.testing.hybrid.scene import JOB_S, machine
from nightkiln.testing.waiting import until

FEW, JOBS = 6, 24


async def test_hybrid_healthy_machines_and_much_time_leave_modal_untouched(
    tmp_path: Path,
) -> None:
    async with HybridScene(tmp_path, jobs=FEW, by="60s") as scene:
        outcome = await scene.run()

        receipt = scene.receipt(outcome)
        print(receipt)
        assert outcome.exit_code == ALL_DONE, scene.told()
        assert await scene.broken() == []
        assert receipt.is_in_time
        assert receipt.of(VAST).jobs == FEW
        assert all(call.runs == 0 for call in scene.modal.calls)
        assert list(scene.modal.containers) == []
        assert scene.modal.billing.usd == 0


@pytest.mark.nights
async def test_hybrid_without_an_offer_under_the_cap_modal_does_all(tmp_path: Path) -> None:
    async with HybridScene(tmp_path, jobs=JOBS, by="120s", usd_per_hour_max=0.1) as scene:
        outcome = await scene.run()

        receipt = scene.receipt(outcome)
        print(receipt)
        assert outcome.exit_code == ALL_DONE, scene.told()
        assert await scene.broken() == []
        assert receipt.is_in_time
        assert receipt.of(MODAL).jobs == JOBS
        assert receipt.billed_usd <= scene.budget


# Modal cannot be used: the night goes on without it, and says so before anything is rented.

NOT_USABLE: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "not deployed": ({"deploys": None}, "the app is not deployed; run: nightkiln modal deploy"),
    "for another environment": (
        {"deploys": Environment("0.3.60")},
        "the app is deployed for another environment; run: nightkiln modal deploy",
    ),
    "no token": ({"has_token": False}, "there is no token; set MODAL_TOKEN_ID"),
    "out of credit": ({"modal_faults": ("no_credit",)}, "the workspace has no credit left"),
}


@pytest.mark.parametrize(
    "why",
    [
        name if name == "not deployed" else pytest.param(name, marks=pytest.mark.nights)
        for name in NOT_USABLE
    ],
)
async def test_hybrid_a_modal_that_cannot_be_used_is_missed_at_the_start(
    why: str, tmp_path: Path
) -> None:
    how, said = NOT_USABLE[why]
    async with HybridScene(tmp_path, jobs=6, by="60s", **how) as scene:
        outcome = await scene.run()

        receipt = scene.receipt(outcome)
        print(receipt)
        told = [json.loads(line) for line in scene.told().splitlines()]
        [app] = [line for line in told if line["event"] == "app"]
        assert said in app["told"]
        assert app["told"].endswith("; the run goes on with vast without it")
        events = [line["event"] for line in told]
        assert events.index("app") < events.index("planned")
        assert outcome.exit_code == ALL_DONE, scene.told()
        assert await scene.broken() == []
        assert receipt.of(VAST).jobs == 6
        assert scene.modal.billing.usd == 0


# Half of the machines are lost.

LOST_AT = 0.4
OVER_PERFECT_MAX = 1.3
BY_S = 90.0


def moved_by_a_perfect_planner(scene: HybridScene, outcome: Outcome, began_s: float) -> int:
    """Jobs that even somebody who knew everything beforehand would have had to move to Modal.

    They have every machine from the first moment, each up as soon as it was for us; there it works
    without a pause by the market's own seconds, nothing is lost on the way to us and back, and
    nothing is kept in reserve; until the machine is lost, or the deadline.
    """
    job_s, on_vast = JOB_S / scene.rules.speed, 0
    with Store.open(outcome.store).connect() as con:
        leases = con.execute(
            "select lease_id, epoch_us(ready_at - rented_at) / 1e6 from leases "
            "where provider = 'vast' and ready_at is not null"
        ).fetchall()
    for lease_id, startup_s in leases:
        ends_s = scene.lost_s.get(label_of("main", LeaseId(lease_id)), began_s + BY_S)
        on_vast += floor((ends_s - began_s - startup_s) / job_s)
    return max(0, scene.jobs - on_vast)


@pytest.mark.nights
@pytest.mark.timeout_s(300)
async def test_hybrid_half_of_the_machines_lost_modal_does_only_the_shortfall(
    tmp_path: Path,
) -> None:
    machines = tuple(machine(number) for number in range(4))
    async with HybridScene(
        tmp_path, jobs=300, by=f"{BY_S:.0f}s", machines=machines, leases_max=12, is_proven=True
    ) as scene:
        running = asyncio.create_task(scene.run())
        await until(scene.billed)
        await asyncio.sleep(LOST_AT * BY_S)
        await scene.lose_half()
        outcome = await running

        receipt = scene.receipt(outcome)
        perfect = moved_by_a_perfect_planner(scene, outcome, receipt.began_s)
        moved = receipt.of(MODAL).jobs
        print(receipt)
        print(f"moved      {moved} jobs to Modal; with perfect foresight {perfect}")
        assert outcome.exit_code == ALL_DONE, scene.told()
        assert await scene.broken() == []
        assert len(scene.lost_s) == 2
        assert receipt.is_in_time
        assert 0 < moved <= OVER_PERFECT_MAX * perfect
