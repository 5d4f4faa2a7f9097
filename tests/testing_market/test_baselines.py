"""The baselines: known answers by hand, and the order that must hold between them on any night."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightkiln.core.model import Kind
from nightkiln.testing.market import Boot, Market, Night, shipped_market
from nightkiln.testing.market.baselines import (
    Baselines,
    Bill,
    Hand,
    NightBaselines,
    Outcome,
    as_text,
    baselines,
    clairvoyant_bound,
    clairvoyant_plan,
    drawn,
    fallback_only,
    grid,
    is_feasible,
    night_baselines,
    play_by_hand,
    summary,
)
from nightkiln.testing.market.baselines.clairvoyant import dual, dual_maximum
from nightkiln.testing.market.baselines.columns import Column, columns
from nightkiln.testing.market.baselines.rental import RENTED_KINDS, rented
from nightkiln.testing.market.params import GpuClass

HOUR_S = 3600.0
ROUNDING = 1 + 1e-9

# Two machines that hold no surprise; all figures of the known answers follow from these.
STARTUP_S = 120.0  # half of it billed
SLOW = GpuClass(machines=1, seconds_per_job=10.0, od_median_usd_h=0.36)
FAST = GpuClass(machines=1, seconds_per_job=5.0, od_median_usd_h=0.90)
JOBS = 500
BID = 0.5  # of the price on demand


def calm_market() -> Market:
    """SLOW and FAST, listed from the start to the end, that boot, live and lie about nothing."""
    ordinary = shipped_market()
    return replace(
        ordinary,
        classes={"SLOW": SLOW, "FAST": FAST},
        batch=replace(
            ordinary.batch,
            jobs=JOBS,
            image_gb=0.0,
            models_gb=0.0,
            result_mb=0.0,
            disk_gb=0.0,
            job_fail_share=0.0,
        ),
        price=replace(
            ordinary.price,
            sigma=0.0,
            drift_sigma=0.0,
            bid_ratio_low=BID,
            bid_ratio_high=BID,
            bid_premium=1.0,
        ),
        startup=replace(
            ordinary.startup,
            cached_share=0.0,
            extract_low_s=60.0,
            extract_high_s=60.0,
            frozen_share=0.0,
            app_low_s=60.0,
            app_high_s=60.0,
        ),
        failure=replace(
            ordinary.failure, bad_host_share=0.0, boot_fail_good=0.0, boot_fail_bad=0.0
        ),
        hazard=replace(ordinary.hazard, od_good_per_h=0.0, od_bad_per_h=0.0, outbid_per_h=0.0),
        speed=replace(ordinary.speed, sigma=0.0, shared_share=0.0),
        availability=replace(
            ordinary.availability, listed_mean_h=10_000.0, away_mean_h=0.01, cheap_elasticity=0.0
        ),
        fallback=replace(ordinary.fallback, sigma=0.0),
    )


def spiky_market() -> Market:
    """Prices and outbids soar from minute 15 to 45, and one region may go dark."""
    ordinary = shipped_market()
    return replace(
        ordinary,
        price=replace(
            ordinary.price,
            spike_from_h=0.25,
            spike_to_h=0.75,
            spike_price_mult=1.5,
            spike_outbid_mult=30.0,
        ),
        regions=replace(ordinary.regions, outage_chance=0.5, outage_from_h=0.3, outage_hours=0.2),
    )


MARKETS = {"ordinary": shipped_market(), "spiky": spiky_market()}
A_FEW_HANDS = tuple(
    Hand(machines, kind, gpu)
    for machines in (3, 24)
    for kind in RENTED_KINDS
    for gpu in (None, "RTX 4090")
)
any_market = st.sampled_from(sorted(MARKETS)).map(MARKETS.__getitem__)
any_seed = st.integers(0, 10**6)
any_deadline_s = st.sampled_from((HOUR_S, 2 * HOUR_S))


# Known answers.


def test_two_calm_machines_cost_the_bound_that_a_pencil_gives() -> None:
    """All of the slow one and the needed share of the fast one, both by bid."""
    night = drawn(calm_market(), 1, HOUR_S)
    slow_jobs, fast_jobs = (HOUR_S - STARTUP_S) / 10.0, (HOUR_S - STARTUP_S) / 5.0
    slow_usd = 0.18 * (HOUR_S - 60.0) / HOUR_S
    fast_usd = 0.45 * (HOUR_S - 60.0) / HOUR_S

    bound = clairvoyant_bound(night, HOUR_S)

    assert bound.usd == pytest.approx(slow_usd + (JOBS - slow_jobs) / fast_jobs * fast_usd)
    assert bound.usd_per_job_more == pytest.approx(fast_usd / fast_jobs)


def test_the_plan_for_two_calm_machines_pays_the_second_start_in_full() -> None:
    night = drawn(calm_market(), 1, HOUR_S)
    slow_usd = 0.18 * (HOUR_S - 60.0) / HOUR_S
    fast_usd = 0.45 * (60.0 + 152 * 5.0) / HOUR_S

    plan = clairvoyant_plan(night, HOUR_S)

    assert plan.usd == pytest.approx(slow_usd + fast_usd)
    assert (plan.leases, plan.jobs_on_fallback) == (2, 0.0)


def test_a_hand_with_two_calm_machines_works_on_both_until_all_is_done() -> None:
    night = drawn(calm_market(), 1, HOUR_S)
    hand = Hand(2, Kind.ON_DEMAND)
    work_s = JOBS / (1 / 10.0 + 1 / 5.0)

    outcome = play_by_hand(night, [hand], HOUR_S)[hand]

    assert outcome.finish_s == pytest.approx(STARTUP_S + work_s)
    assert outcome.bill.rendering == pytest.approx((0.36 + 0.90) * work_s / HOUR_S)
    assert outcome.bill.startup == pytest.approx((0.36 + 0.90) * 60.0 / HOUR_S)
    assert (outcome.leases, outcome.lost, outcome.is_met) == (2, 0, True)


def test_a_hand_takes_the_cheapest_hour_and_not_the_cheapest_job() -> None:
    night = drawn(calm_market(), 1, 3 * HOUR_S)
    one = Hand(1, Kind.ON_DEMAND)

    outcome = play_by_hand(night, [one], 3 * HOUR_S)[one]

    assert outcome.finish_s == pytest.approx(STARTUP_S + JOBS * 10.0)


def test_what_a_hand_leaves_at_the_deadline_is_finished_on_the_fallback_and_charged() -> None:
    market = calm_market()
    night = drawn(market, 1, HOUR_S)
    slow = Hand(1, Kind.ON_DEMAND, "SLOW")
    left = JOBS - (HOUR_S - STARTUP_S) / 10.0
    late_s = 60.0 + left * 4.8

    outcome = play_by_hand(night, [slow], HOUR_S)[slow]

    assert not outcome.is_met
    assert outcome.finish_s == pytest.approx(HOUR_S + late_s)
    assert outcome.bill.fallback == pytest.approx(2.17 * (late_s + 15.0) / HOUR_S)


def test_the_fallback_alone_takes_the_fewest_containers_that_make_the_deadline() -> None:
    market = calm_market()
    alone_s = 60.0 + JOBS * 4.8
    shared_s = 60.0 + JOBS * 4.8 / 2

    in_an_hour = fallback_only(drawn(market, 1, HOUR_S), HOUR_S)
    hurried = fallback_only(drawn(market, 1, 1800.0), 1800.0)

    assert in_an_hour.finish_s == pytest.approx(alone_s)
    assert in_an_hour.usd == pytest.approx(2.17 * (alone_s + 15.0) / HOUR_S)
    assert hurried.finish_s == pytest.approx(shared_s)
    assert hurried.usd == pytest.approx(2 * 2.17 * (shared_s + 15.0) / HOUR_S)


def test_a_night_is_feasible_as_long_as_all_containers_together_make_it() -> None:
    market = calm_market()
    together_s = 60.0 + JOBS * 4.8 / market.fallback.max_containers

    assert is_feasible(drawn(market, 1, together_s + 1), together_s + 1)
    assert not is_feasible(drawn(market, 1, together_s - 1), together_s - 1)


# What happens to rented machines.


def test_a_machine_that_never_boots_is_given_up_after_25_minutes_and_replaced() -> None:
    stuck = replace(
        calm_market().failure, boot_fail_good=1.0, early_share=0.0, stuck_loading_share=0.0
    )
    night = drawn(replace(calm_market(), failure=stuck), 1, HOUR_S)
    one = Hand(1, Kind.ON_DEMAND)

    outcome = play_by_hand(night, [one], HOUR_S)[one]

    assert outcome.leases == 2  # the slow one, then the fast one, and there is no third
    assert outcome.bill.rendering == 0
    assert outcome.bill.failed == pytest.approx((0.36 + 0.90) * (25 * 60.0 - 60.0) / HOUR_S)


def test_a_machine_that_dies_is_replaced_once_that_is_seen() -> None:
    deadly = replace(calm_market().hazard, od_good_per_h=1.0, detect_s=90.0)
    market = replace(calm_market(), hazard=deadly)
    night = next(
        night
        for night in (drawn(market, seed, 3 * HOUR_S) for seed in range(100))
        if 600 < _death_of(night, "SLOW") < 3000 and _death_of(night, "FAST") > 2
    )
    one = Hand(1, Kind.ON_DEMAND)
    died_s = _death_of(night, "SLOW")
    jobs_before = (died_s - STARTUP_S) / 10.0

    outcome = play_by_hand(night, [one], 3 * HOUR_S)[one]

    ready_again_s = died_s + 90.0 + STARTUP_S
    assert outcome.lost == 1
    assert outcome.finish_s == pytest.approx(ready_again_s + (JOBS - jobs_before) * 5.0)


def _death_of(night: Night, gpu: str) -> float:
    """When it is lost if it is rented at the start."""
    [stretch] = [one for one in night.stretches if one.gpu == gpu and one.listed_s == 0]
    return night.death_s(stretch, Kind.ON_DEMAND, 0.0)


def test_a_hand_with_too_few_on_offer_waits_for_the_next_listing() -> None:
    rare = replace(calm_market().availability, listed_mean_h=1.0, away_mean_h=1.0)
    market = replace(calm_market(), availability=rare)
    night = next(
        night
        for night in (drawn(market, seed, 3 * HOUR_S) for seed in range(100))
        if night.stretches and 0 < night.stretches[0].listed_s < 1800
    )
    one = Hand(1, Kind.ON_DEMAND)

    outcome = play_by_hand(night, [one], 3 * HOUR_S)[one]

    first = night.stretches[0]
    ready_s = first.listed_s + STARTUP_S
    assert outcome.finish_s == pytest.approx(ready_s + JOBS * first.s_per_job)


# The order that must hold on any night.


@settings(max_examples=12)
@given(any_market, any_seed, any_deadline_s)
def test_nobody_is_cheaper_than_the_bound(market: Market, seed: int, deadline_s: float) -> None:
    night = drawn(market, seed, deadline_s)

    bound = clairvoyant_bound(night, deadline_s)

    plan = clairvoyant_plan(night, deadline_s)
    alone = fallback_only(night, deadline_s)
    assert bound.usd <= plan.usd * ROUNDING
    assert plan.usd <= alone.usd * ROUNDING
    for hand, outcome in play_by_hand(night, A_FEW_HANDS, deadline_s).items():
        assert bound.usd <= outcome.usd, hand


@settings(max_examples=25)
@given(any_market, any_seed, any_deadline_s, st.data())
def test_no_rental_moment_is_better_than_every_column(
    market: Market, seed: int, deadline_s: float, data: st.DataObject
) -> None:
    night = drawn(market, seed, deadline_s)
    bootable = [one for one in night.stretches if one.boot is Boot.OK]
    stretch = data.draw(st.sampled_from([one for one in bootable if one.listed_s < deadline_s]))
    last_s = min(stretch.gone_s, deadline_s)
    rented_s = data.draw(st.floats(stretch.listed_s, last_s, exclude_max=True))
    kind = data.draw(st.sampled_from(RENTED_KINDS))
    rental = rented(night, stretch, kind, rented_s)
    life_s = min(deadline_s, rental.dies_s) - rented_s
    jobs = (life_s - stretch.startup_s) / stretch.s_per_job

    choices = columns(night, stretch, deadline_s, RENTED_KINDS, may_round=True)

    assert jobs <= 0 or any(
        column.usd_fixed <= rental.usd_fixed * ROUNDING
        and column.usd_per_job <= rental.usd_per_job * ROUNDING
        and column.jobs_max >= jobs / ROUNDING
        for column in choices
    )


@settings(max_examples=10)
@given(any_seed)
def test_who_may_not_bid_has_a_higher_bound(seed: int) -> None:
    night = drawn(MARKETS["ordinary"], seed, HOUR_S)

    free = clairvoyant_bound(night, HOUR_S)

    for kind in RENTED_KINDS:
        assert free.usd <= clairvoyant_bound(night, HOUR_S, kinds=(kind,)).usd * ROUNDING


# The dual itself.

some_columns = st.lists(
    st.builds(Column, st.floats(0, 5), st.floats(0, 0.1), st.floats(0.1, 500)), max_size=2
)


@given(st.lists(some_columns, max_size=8), st.floats(1, 1000), st.floats(0, 1))
def test_the_dual_is_nowhere_above_the_maximum_found(
    choices: list[list[Column]], jobs: float, share: float
) -> None:
    bound = dual_maximum(choices, jobs, 0.2)

    assert dual(choices, jobs, share * 0.2)[0] <= bound.usd * ROUNDING + 1e-9
    assert bound.usd == pytest.approx(dual(choices, jobs, bound.usd_per_job_more)[0])


@given(st.lists(some_columns, max_size=5), st.floats(1, 1000))
def test_the_bound_is_below_the_best_of_all_choices(
    choices: list[list[Column]], jobs: float
) -> None:
    def best(index: int, taken: tuple[Column, ...]) -> float:
        if index == len(choices):
            return _usd_of(taken, jobs)
        ways = [(), *((column,) for column in choices[index])]
        return min(best(index + 1, taken + way) for way in ways)

    assert dual_maximum(choices, jobs, 0.2).usd <= best(0, ()) * ROUNDING


def _usd_of(taken: tuple[Column, ...], jobs: float) -> float:
    """Jobs go where they are cheapest; the fallback does what does not fit, or dearly."""
    usd, left = sum(column.usd_fixed for column in taken), jobs
    for column in sorted(taken, key=lambda one: one.usd_per_job):
        done = min(left, column.jobs_max) if column.usd_per_job < 0.2 else 0.0
        usd += done * column.usd_per_job
        left -= done
    return usd + left * 0.2


# The bill and the table.


@settings(max_examples=10)
@given(any_market, any_seed)
def test_a_bill_is_the_sum_of_its_parts_and_none_is_negative(market: Market, seed: int) -> None:
    night = drawn(market, seed, HOUR_S)

    for outcome in play_by_hand(night, A_FEW_HANDS, HOUR_S).values():
        parts = [getattr(outcome.bill, part.name) for part in fields(outcome.bill)]
        assert all(part >= 0 and math.isfinite(part) for part in parts)
        assert outcome.usd == pytest.approx(sum(parts))
        assert outcome.is_met == (outcome.bill.fallback == 0)
        assert outcome.is_met == (outcome.finish_s <= HOUR_S)


def test_the_same_night_gives_the_same_baselines_however_far_it_is_drawn() -> None:
    market = MARKETS["ordinary"]
    night = drawn(market, 7, HOUR_S)
    longer = Night(market, seed=7, horizon_s=3 * HOUR_S)

    assert night_baselines(night, HOUR_S, hands=A_FEW_HANDS) == night_baselines(
        longer, HOUR_S, hands=A_FEW_HANDS
    )


def test_the_grid_has_every_number_class_and_kind() -> None:
    hands = grid(MARKETS["ordinary"])

    assert len(hands) == len(set(hands)) == 13 * (1 + 7) * 2
    assert {hand.machines for hand in hands} == {1, 2, 3, 4, 6, 8, 10, 12, 16, 24, 32, 48, 64}


def test_only_a_hand_that_makes_99_of_100_deadlines_is_the_best() -> None:
    late = Hand(2, Kind.INTERRUPTIBLE)  # the cheapest, but for this
    bidding = Hand(4, Kind.INTERRUPTIBLE)
    on_demand = Hand(4, Kind.ON_DEMAND)
    nights = [
        NightBaselines(
            seed=seed,
            fallback_only=ended(30.0),
            clairvoyant_usd=2.0,
            plan_usd=2.1,
            hands={
                late: ended(3.0, is_met=seed > 1),
                bidding: ended(4.0, is_met=seed > 0),
                on_demand: ended(5.0),
            },
        )
        for seed in range(100)
    ]

    table = summary(MARKETS["ordinary"], HOUR_S, nights)

    assert table.best_hand is not None
    assert table.best_hand.hand == bidding
    assert table.best_hand.usd_per_1000 == pytest.approx(0.4)
    assert table.best_on_demand is not None
    assert table.best_on_demand.hand == on_demand
    assert table.usd_per_1000_fallback_only == pytest.approx(3.0)
    assert table.tightness == pytest.approx(1.05)
    assert as_text(table).count("\n*") == 2


def ended(usd: float, *, is_met: bool = True) -> Outcome:
    return Outcome(Bill(rendering=usd), finish_s=0.0, is_met=is_met, leases=4, lost=0)


def test_a_market_that_offers_nothing_is_all_fallback() -> None:
    empty = {name: replace(one, machines=0) for name, one in calm_market().classes.items()}
    market = replace(calm_market(), classes=empty)

    [table] = baselines(market, [HOUR_S], [1])

    assert table.best_hand is None
    assert table.usd_per_1000_clairvoyant == pytest.approx(2.17 * 4.8 / 3.6)
    assert table.tightness == pytest.approx((JOBS * 4.8 + 75.0) / (JOBS * 4.8))


# The figures of the model's first simulator, another program: these nights are others.

MEASURED_NIGHTS = 100


@cache
def measured(hours: float) -> Baselines:
    [table] = baselines(shipped_market(), [hours * HOUR_S], range(MEASURED_NIGHTS))
    return table


@pytest.mark.long
@pytest.mark.parametrize(
    ("hours", "fallback", "bound", "on_demand", "either"),
    [
        (8, 2.919, 0.220, 0.498, 0.345),
        (2, 2.936, 0.303, 0.647, 0.476),
        (1, 2.970, 0.391, 0.899, 0.706),
    ],
)
def test_an_ordinary_market_costs_what_an_independent_simulator_found(
    hours: float, fallback: float, bound: float, on_demand: float, either: float
) -> None:
    table = measured(hours)

    print(as_text(table))
    assert table.usd_per_1000_fallback_only == pytest.approx(fallback, rel=0.01)
    assert table.usd_per_1000_clairvoyant == pytest.approx(bound, rel=0.10)
    assert table.best_on_demand is not None
    assert table.best_on_demand.usd_per_1000 == pytest.approx(on_demand, rel=0.15)
    assert table.best_hand is not None
    assert table.best_hand.usd_per_1000 == pytest.approx(either, rel=0.15)


@pytest.mark.long
@pytest.mark.parametrize("hours", [8, 2, 1])
def test_the_bound_is_nearly_reached_by_a_real_plan(hours: float) -> None:
    assert 1 <= measured(hours).tightness <= 1.03
