"""What a run is held to: a deadline, a budget; and how it ends when they are reached."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from nightkiln.core.errors import BadInput
from nightkiln.core.outbid import DAY_S
from nightkiln.core.story import Opening
from nightkiln.core.terms import Load
from nightkiln.demo import demo_catalog
from nightkiln.gate import unquoted
from nightkiln.goals import Goals
from nightkiln.market_night import picture
from nightkiln.night import Outcome
from nightkiln.observers import JsonLines
from nightkiln.observers.sentences import outcome_lines
from nightkiln.rehearse import Script
from nightkiln.settings import load_settings
from nightkiln.store.store import Store
from nightkiln.story import read_story
from nightkiln.testing import virtual_time
from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.market import shipped_market
from nightkiln.testing.market.providers import SimulatedMarket
from nightkiln.testing.market.stage import Stage
from nightkiln.testing.priced import PricedWorkers
from nightkiln.testing.samples import write_catalog
from nightkiln.wiring import Request, chosen_catalog, run_batch
from tests.e2e.test_release import Ears

HOUR_S = 3600.0
BEGAN_S = 1_795_255_983.0


class Quiet(JsonLines):
    """Says nothing."""

    def __init__(self) -> None: ...

    async def event(self, name: str, fields: Mapping[str, Any]) -> None: ...


async def night(
    tmp_path: Path,
    worker: StandIn,
    *,
    is_rented: bool,
    heard: JsonLines | None = None,
    **flags: Any,
) -> Outcome:
    folder = tmp_path / "catalog"
    if not folder.exists():
        write_catalog(folder, 30)
    settings = load_settings(store=str(tmp_path / "store"), worker_urls=[worker.url], **flags)
    rents_from = {"cloud": PricedWorkers([worker.url])} if is_rented else None
    request = Request(chosen_catalog(folder), name="night")
    observer = heard if heard is not None else Quiet()
    return await run_batch(request, settings, observer, rents_from=rents_from, gate=unquoted)


async def opening(tmp_path: Path) -> Opening:
    [*_, story] = Store.open(str(tmp_path / "store")).story_paths("night")
    return read_story(story)[0]


async def played(store: Path, began_s: float, **flags: Any) -> Outcome:
    """A night on one simulated machine, by a clock on which nothing else takes time."""
    loop = asyncio.get_running_loop()
    stage = Stage(epoch_s=began_s, starts_s=0.0, picture=picture())
    market = SimulatedMarket(Script(shipped_market(), HOUR_S).night(0), stage=stage)
    return await run_batch(
        Request(chosen_catalog(demo_catalog()), name="night", leases_max=1),
        load_settings(store=str(store), budget="5", **flags),
        Quiet(),
        clock=lambda: began_s + loop.time(),
        rents_from={market.name: market},
        gate=unquoted,
    )


def test_at_the_deadline_a_run_stops_keeps_what_it_has_and_can_go_on(tmp_path: Path) -> None:
    """Five minutes are enough for most of the images of this night, and not for all."""
    stopped = virtual_time.run(played(tmp_path / "store", BEGAN_S, by="5m"))
    resumed = virtual_time.run(played(tmp_path / "store", BEGAN_S + HOUR_S))

    assert (stopped.exit_code, stopped.failed) == (3, 0)
    assert 0 < stopped.done < stopped.total
    assert stopped.stop_reason is not None
    assert "the deadline has passed with" in stopped.stop_reason
    assert "the same command again does what is left" in outcome_lines(stopped)
    assert (resumed.exit_code, resumed.done) == (0, stopped.total)


async def test_a_late_run_may_finish_all_the_same(tmp_path: Path) -> None:
    async with StandIn(render_s=0.05) as worker:
        outcome = await night(tmp_path, worker, is_rented=False, by="1s", late="finish")

    assert (outcome.exit_code, outcome.done) == (0, 30)


async def test_what_costs_money_is_not_used_without_a_budget(tmp_path: Path) -> None:
    async with StandIn() as worker:
        with pytest.raises(BadInput, match=r"--budget: cloud cost money.*give --budget 4\.00"):
            await night(tmp_path, worker, is_rented=True)

    assert not (tmp_path / "store").exists()


async def test_what_was_spent_is_said_and_stays_below_the_budget(tmp_path: Path) -> None:
    async with StandIn() as worker:
        outcome = await night(
            tmp_path, worker, is_rented=True, budget="2.50", by="2h", fallback="never",
            at_cap="cancel",
        )  # fmt: skip

    assert (outcome.exit_code, outcome.done) == (0, 30)
    assert 0 < outcome.usd < Decimal("0.05")
    terms = (await opening(tmp_path)).terms
    assert (terms.budget, terms.fallback, terms.at_cap) == (Decimal("2.50"), "never", "cancel")


async def test_a_budget_that_pays_for_nothing_ends_the_run_and_says_how_to_go_on(
    tmp_path: Path,
) -> None:
    ears = Ears()
    async with StandIn() as worker:
        outcome = await night(tmp_path, worker, is_rented=True, budget="0.001", heard=ears)

    assert (outcome.exit_code, outcome.done, outcome.left) == (3, 0, 30)
    assert outcome.stop_reason is not None
    assert "raise --budget or resume later" in outcome.stop_reason
    assert ears.events["stopping"] == {"reason": outcome.stop_reason, "is_budget": True}


async def test_the_next_night_starts_from_what_this_one_learned(tmp_path: Path) -> None:
    async with StandIn() as worker:
        await night(tmp_path, worker, is_rented=True, budget="2.50")
        first = await opening(tmp_path)
        write_catalog(tmp_path / "catalog", 33)
        await night(tmp_path, worker, is_rented=True, budget="2.50")
        second = await opening(tmp_path)

    assert first.scores.workflow_jobs == 0
    assert second.scores.workflow_jobs == 30
    assert [host[0] for host in second.scores.machines] == ["cloud"]
    assert second.scores.startup.jobs == 1


async def test_what_goes_over_the_wire_is_counted_where_it_is_billed_and_measured(
    tmp_path: Path,
) -> None:
    async with StandIn() as worker:
        await night(tmp_path, worker, is_rented=True, budget="2.50")
        first = await opening(tmp_path)
        write_catalog(tmp_path / "catalog", 33)
        await night(tmp_path, worker, is_rented=True, budget="2.50", image_gb=5.0)
        second = await opening(tmp_path)

    assert (first.terms.load.image_gb, second.terms.load.image_gb) == (12.0, 5.0)
    assert first.terms.load.models_gb > 0
    with Store.open(str(tmp_path / "store")).connect() as con:
        [(total,)] = con.execute("select sum(bytes) from outputs where status = 'done'").fetchall()
    before, after = first.terms.load.result_gb, second.terms.load.result_gb
    assert after < before
    assert after == pytest.approx((10 * before + total * 30 / 33 / 1e9) / 40, rel=0.01)


async def test_machines_of_ones_own_cost_no_traffic(tmp_path: Path) -> None:
    async with StandIn() as worker:
        await night(tmp_path, worker, is_rented=False)

    assert (await opening(tmp_path)).terms.load == Load()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"budget": "0"}, "--budget"),
        ({"budget": "-4"}, "--budget"),
        ({"budget": "NaN"}, "--budget"),
        ({"budget": "Infinity"}, "--budget"),
        ({"budget": "a lot"}, "--budget"),
        ({"by": "2020-01-01T07:00"}, "--by 2020-01-01T07:00: is not in the future"),
        ({"by": "soon"}, "--by soon: is no time"),
        ({"by": "0s"}, "--by 0s"),
        ({"fallback": "sometimes"}, "--fallback"),
        ({"late": "never"}, "--late"),
        ({"at_cap": "explode"}, "--at-cap"),
    ],
)
async def test_a_goal_that_makes_no_sense_is_refused_before_anything_starts(
    tmp_path: Path, flags: dict[str, Any], said: str
) -> None:
    async with StandIn() as worker:
        with pytest.raises(BadInput) as found:
            await night(tmp_path, worker, is_rented=False, **flags)

    assert said in str(found.value)
    assert not (tmp_path / "store").exists()


def test_the_scheduler_is_told_the_time_of_day_on_its_own_clock() -> None:
    terms = Goals().terms("night-1", 4, jobs=1, now_s=3 * DAY_S + 7200.0, clock_s=500.0)

    assert terms.midnight_s == 500.0 - 7200.0
