"""Nights on rented machines with Modal behind them, through both real SDKs; each has a receipt."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from math import floor
from pathlib import Path

import pytest

from nightkiln.core.errors import BadInput
from nightkiln.core.model import LeaseId
from nightkiln.night import ALL_DONE, STOPPED_EARLY, Outcome
from nightkiln.places import MODAL, VAST
from nightkiln.providers.vast.labels import label_of
from nightkiln.store.store import Store
from nightkiln.testing.hybrid import HybridScene
from nightkiln.testing.hybrid.scene import JOB_S, machine
from nightkiln.testing.waiting import until

FEW, JOBS = 6, 24


@pytest.mark.nights
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
        assert receipt.of(MODAL).counted_usd >= await scene.last_bill()


@pytest.mark.nights
async def test_hybrid_what_modal_cannot_do_without_an_offer_under_the_cap_is_said_beforehand(
    tmp_path: Path,
) -> None:
    async with HybridScene(
        tmp_path,
        jobs=JOBS,
        by="1h",
        budget=Decimal("0.01"),
        usd_per_hour_max=0.01,
        is_quoted=True,
        is_proven=True,
    ) as scene:
        with pytest.raises(BadInput, match="nine nights out of ten keep within") as refused:
            await scene.run()

        print(refused.value)
        assert list(scene.modal.containers) == []
        assert scene.market.machines() == []


@pytest.mark.nights
async def test_hybrid_a_budget_without_an_offer_under_the_cap_is_kept_and_said(
    tmp_path: Path,
) -> None:
    async with HybridScene(
        tmp_path, jobs=JOBS, by="120s", usd_per_hour_max=0.1, budget=Decimal("0.02")
    ) as scene:
        outcome = await scene.run()

        receipt = scene.receipt(outcome)
        print(receipt)
        assert outcome.exit_code == STOPPED_EARLY, scene.told()
        assert outcome.stop_reason is not None
        assert "raise --budget or resume later" in outcome.stop_reason
        assert receipt.billed_usd <= scene.budget


# Half of the machines are lost.

LOST_AT = 0.4
OVER_PERFECT_MAX = 1.3
BY_S = 90.0
MOSTLY_BETWEEN = """
    select median(gap_s) from (
        select epoch(finished_at) - lag(epoch(finished_at))
            over (partition by lease_id order by finished_at) as gap_s
        from attempts where provider = 'vast' and status = 'done'
    ) where gap_s > 0
"""


def moved_by_a_perfect_planner(scene: HybridScene, outcome: Outcome, began_s: float) -> int:
    """Jobs that even somebody who knew everything beforehand would have had to move to Modal.

    They have every machine from the first moment, each up as soon as it was for us; there it works
    without a pause, as fast as machines mostly did (never faster than the market says), and nothing
    is kept in reserve; until the machine is lost, or the deadline.
    """
    on_vast = 0
    with Store.open(outcome.store).connect() as con:
        leases = con.execute(
            "select lease_id, epoch_us(ready_at - rented_at) / 1e6 from leases "
            "where provider = 'vast' and ready_at is not null"
        ).fetchall()
        [(between_s,)] = con.execute(MOSTLY_BETWEEN).fetchall()
    job_s = max(JOB_S / scene.rules.speed, between_s)  # a busy computer slows machines down
    for lease_id, startup_s in leases:
        ends_s = scene.lost_s.get(label_of("main", LeaseId(lease_id)), began_s + BY_S)
        on_vast += floor((ends_s - began_s - startup_s) / job_s)
    return max(0, scene.jobs - on_vast)


@pytest.mark.long
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
        await scene.lose(0.5)
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
        assert receipt.of(MODAL).counted_usd >= await scene.last_bill()
