"""Trouble at either service, and jobs that fail, on rented machines with Modal behind them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from nightkiln.core.model import Fault
from nightkiln.core.terms import Late
from nightkiln.night import ALL_DONE, SOME_FAILED, STOPPED_EARLY
from nightkiln.places import MODAL, VAST
from nightkiln.store.store import Store
from nightkiln.testing.hybrid import HybridScene
from nightkiln.testing.hybrid.scene import machine
from nightkiln.testing.vast_market.controller import BATCH
from nightkiln.testing.waiting import until

CURSED = "a cursed picture"
ALWAYS = "@1x999999"


def asked(folder: Path, sql: str, **values: float | str) -> Sequence[tuple[Any, ...]]:
    """What the store says."""
    with Store.open(str(folder / "store")).connect() as con:
        return con.execute(sql, values).fetchall()


def rows(count: int, *, cursed: int) -> Sequence[dict[str, str]]:
    """Prompts, of which one is not like the others."""
    return [
        {"id": f"row-{n}", "prompt": CURSED if n == cursed else f"sample prompt {n}"}
        for n in range(count)
    ]


def tries_of_the_cursed(folder: Path) -> Sequence[tuple[Any, ...]]:
    """Provider and end of each try of that job, in order."""
    sql = """
        select a.provider, a.status from attempts a join jobs j using (batch, job_id)
        where j.prompt = $prompt order by a.started_at
    """
    return asked(folder, sql, prompt=CURSED)


@pytest.mark.nights
async def test_hybrid_a_job_that_fails_on_two_machines_is_done_on_modal(tmp_path: Path) -> None:
    async with HybridScene(
        tmp_path,
        jobs=8,
        rows=rows(8, cursed=3),
        by="90s",
        options=("--fault", f"cuda~{CURSED}"),
        is_proven=True,
    ) as scene:
        outcome = await scene.run()

        receipt = scene.receipt(outcome)
        print(receipt)
        assert outcome.exit_code == ALL_DONE, scene.told()
        assert await scene.broken() == []
        tries = tries_of_the_cursed(tmp_path)
        assert tries == [(VAST, "failed"), (VAST, "failed"), (MODAL, "done")]
        assert (receipt.of(VAST).jobs, receipt.of(MODAL).jobs) == (7, 1)


@pytest.mark.nights
async def test_hybrid_a_poison_job_fails_once_more_and_never_on_modal(tmp_path: Path) -> None:
    poison = f"error~{CURSED}"
    async with HybridScene(
        tmp_path,
        jobs=120,
        rows=rows(120, cursed=6),
        by="60s",
        machines=tuple(map(machine, range(2))),
        leases_max=6,
        options=("--fault", poison),
        modal_comfy_faults=(poison,),
        is_proven=True,
    ) as scene:
        outcome = await scene.run()

        receipt = scene.receipt(outcome)
        print(receipt)
        assert outcome.exit_code == SOME_FAILED, scene.told()
        assert (outcome.done, outcome.failed) == (119, 1)
        # The first is Modal's where the machines come up so late that it begins; what a machine
        # had in hand when it was lost is no failure.
        ends = [who for who, end in tries_of_the_cursed(tmp_path) if end == "failed"]
        assert len(ends) == 2
        assert ends[-1] == VAST
        assert asked(tmp_path, "select fault from jobs where status = 'failed'") == [(Fault.JOB,)]
        assert receipt.of(MODAL).jobs > 0, "Modal was there, and was spared"
        assert scene.billed() == []


@pytest.mark.long
@pytest.mark.timeout_s(300)
@pytest.mark.parametrize("fault", ["away", "mute"])
async def test_hybrid_an_hour_without_the_api_is_worked_through_and_over(
    fault: str, tmp_path: Path
) -> None:
    machines = tuple(map(machine, range(3)))
    async with HybridScene(
        tmp_path, jobs=370, by="150s", machines=machines, leases_max=8, is_proven=True
    ) as scene:
        running = asyncio.create_task(scene.run())
        await until(lambda: len(scene.market.machines()) == len(machines), within_s=60)
        await asyncio.sleep(12)
        scene.market.plan.add([fault + ALWAYS])
        began_s = time.time()
        await scene.lose(1 / 3)
        await asyncio.sleep(60)  # an hour of the story
        scene.market.plan.clear()
        over_s = time.time()
        await scene.tell_market("POST", "offers", [machine(number) for number in range(10, 14)])
        outcome = await running

        receipt = scene.receipt(outcome)
        print(receipt)
        assert outcome.exit_code == ALL_DONE, scene.told()
        assert await scene.broken() == []
        assert receipt.is_in_time
        during = asked(
            tmp_path,
            "select distinct provider from attempts where status = 'done' "
            "and epoch(finished_at) between $began_s and $over_s order by 1",
            began_s=began_s + 5,
            over_s=over_s,
        )
        assert during == [(MODAL,), (VAST,)], "both went on"
        [(again,)] = asked(
            tmp_path,
            "select count(*) from leases where provider = 'vast' and jobs_done > 0 "
            "and epoch(rented_at) > $over_s",
            over_s=over_s,
        )
        assert again > 0, "machines are rented again"


@pytest.mark.long
async def test_hybrid_with_both_down_a_run_stops_and_the_next_goes_on(tmp_path: Path) -> None:
    async with HybridScene(
        tmp_path,
        jobs=30,
        machines=(machine(1),),
        modal_faults=("down",),
        silence_s=8.0,
        late=Late.STOP,
        is_proven=True,
    ) as scene:
        running = asyncio.create_task(scene.run())
        await until(lambda: any(tmp_path.glob("store/images/*/*/*")), within_s=60)
        scene.market.plan.add([f"away{ALWAYS}"])
        await scene.lose(1.0)
        stopped = await running

        print(scene.receipt(stopped))
        assert stopped.exit_code == STOPPED_EARLY, scene.told()
        assert 0 < stopped.done < 30
        assert stopped.stop_reason is not None
        assert "nobody has answered" in stopped.stop_reason
        assert "the same command goes on" in stopped.stop_reason

        scene.market.plan.clear()
        scene.modal.lift_faults()
        await scene.tell_market("POST", "offers", [machine(2)])
        outcome = await scene.run()

        print(scene.receipt(outcome))
        assert (outcome.exit_code, outcome.batch) == (ALL_DONE, BATCH), scene.told()
        assert await scene.broken() == []
