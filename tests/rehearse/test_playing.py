"""A rehearsed night: what it is made of, that it can be repeated, and that its money adds up."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from math import isclose

import pytest

from nightkiln.core.events import Cancel
from nightkiln.core.model import AttemptId, Kind, LeaseId
from nightkiln.core.terms import Fallback, Late
from nightkiln.rehearse import (
    Played,
    Script,
    Stage,
    lump_for,
    percentile,
    play,
    rehearsed,
    summary_of,
    with_jobs,
)
from nightkiln.rehearse.uses import Meter
from nightkiln.testing.market import SHIPPED, Market, shipped_market
from nightkiln.testing.market.baselines import clairvoyant_bound

H_S = 3600.0
ORDINARY = shipped_market()


def script(jobs: int = 300, *, market: Market = ORDINARY, lump: int = 5) -> Script:
    return Script(with_jobs(market, jobs), 2 * H_S, lump=lump, late=Late.FINISH)


@pytest.fixture(scope="module", params=SHIPPED)
def night(request: pytest.FixtureRequest) -> tuple[Script, Played]:
    played = script(market=shipped_market(request.param))
    return played, play(played, seed=3)


def test_every_job_ends_one_way(night: tuple[Script, Played]) -> None:
    script, played = night

    settled = played.jobs_done + played.jobs_failed + played.jobs_left
    assert isclose(settled, script.market.batch.jobs)


def test_what_money_was_spent_on_adds_up_to_the_bill(night: tuple[Script, Played]) -> None:
    _, played = night

    assert isclose(played.parts.usd, float(played.billed_usd), rel_tol=1e-9)
    assert isclose(sum(played.usd_by_kind.values()), float(played.billed_usd), rel_tol=1e-9)
    assert min(played.parts[name] for name in ("rendering", "startup", "idle")) > -1e-9


def test_our_own_count_is_never_below_the_bill(night: tuple[Script, Played]) -> None:
    _, played = night

    assert played.ledger_usd >= played.billed_usd


def test_nobody_pays_less_than_the_clairvoyant(night: tuple[Script, Played]) -> None:
    script, played = night
    if not played.is_met:
        pytest.skip("late work has no bound")

    assert played.usd >= clairvoyant_bound(script.night(3), script.deadline_s).usd


def test_the_same_night_is_played_the_same_wherever_it_is_played() -> None:
    seeds = range(3)
    alone = [play(script(100), seed) for seed in seeds]

    with Stage(processes=2, alone_s_max=0.0) as stage:
        spread = [one.played for one in stage.rehearsed(script(100), seeds, compares=False)]
    here = [one.played for one in rehearsed(script(100), seeds, compares=False)]

    assert spread == here == alone


def test_a_bill_stays_within_the_budget_and_what_is_left_is_told() -> None:
    poor = replace(script(300), budget=Decimal("0.05"))

    played = play(poor, seed=1)

    assert played.billed_usd <= played.ledger_usd <= Decimal("0.05")
    assert played.jobs_left > 0
    assert played.finishing_usd > 0, "so that an unfinished night does not look cheap"
    assert played.stop_reason is not None
    assert not played.is_met


@pytest.mark.parametrize(
    ("fallback", "kinds"),
    [
        (Fallback.ONLY, {Kind.SERVERLESS}),
        (Fallback.NEVER, {Kind.ON_DEMAND, Kind.INTERRUPTIBLE}),
    ],
)
def test_the_choice_of_fallback_is_kept(fallback: Fallback, kinds: set[Kind]) -> None:
    played = play(replace(script(100), fallback=fallback), seed=2)

    assert {kind for kind, usd in played.usd_by_kind.items() if usd > 0} <= kinds
    assert played.jobs_done == 100


def test_no_more_machines_are_rented_than_the_controller_takes_in() -> None:
    free = replace(script(6000, lump=20), deadline_s=H_S)

    fewer = play(replace(free, results_per_s_max=0.5), seed=3)

    assert 2 * fewer.leases_most <= play(free, seed=3).leases_most
    assert not fewer.is_met


def test_a_lump_is_small_where_the_deadline_is_near_and_the_batch_small() -> None:
    assert lump_for(with_jobs(ORDINARY, 40), H_S) == 1
    assert lump_for(with_jobs(ORDINARY, 10_000), 8 * H_S) == 20
    assert lump_for(with_jobs(ORDINARY, 10_000_000), H_S) < 20


def test_lumps_are_the_whole_batch() -> None:
    uneven = script(1234, lump=100)

    assert isclose(uneven.lumps * uneven.jobs_per_lump, 1234)


def test_half_of_the_machines_can_be_known_beforehand() -> None:
    half = replace(script(), known_share=0.5)
    night = half.night(7)

    known = half.scores(night).luck

    assert 0.35 < len(known) / len(night.machines) < 0.65
    assert known == half.scores(night).luck, "the same half for the same night"
    assert not script().scores(night).luck


def test_a_summary_tells_ratios_of_means_and_quantiles() -> None:
    with Stage(processes=1) as stage:
        nights = list(stage.rehearsed(script(100), range(2)))

    summary = summary_of(script(100), nights)

    usd = sum(one.played.usd for one in nights) / 2
    assert isclose(summary.usd_per_1000, 10 * usd)
    assert summary.baselines is not None
    assert summary.over_budget == 0
    assert summary.as_object()["finish_s_p10"] <= summary.as_object()["finish_s_p90"]


def test_percentiles_lie_between_the_values() -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.5
    assert percentile([7.0], 0.9) == 7.0


def test_a_meter_hears_nothing_of_what_was_never_handed_out() -> None:
    meter = Meter(clock=lambda: 0.0)

    meter.ordered(Cancel(LeaseId("gone"), AttemptId("gone"), "it was not needed"))

    assert meter.by_lease == {}
