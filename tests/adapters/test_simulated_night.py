from __future__ import annotations

import math
from dataclasses import replace
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.core.model import Kind
from nightkiln.testing.market import SHIPPED, Boot, Market, Night, shipped_market

HOUR_S = 3600.0
ORDINARY = shipped_market("ordinary")
NIGHTS = [Night(ORDINARY, seed=seed, horizon_s=24 * HOUR_S) for seed in range(12)]
STRETCHES = [stretch for night in NIGHTS for stretch in night.stretches]

seeds = st.integers(min_value=0, max_value=10_000)


def only(market: Market, class_name: str, machines: int) -> Market:
    one = replace(market.classes[class_name], machines=machines)
    return replace(market, classes={class_name: one})


def with_spike(market: Market, from_h: float, to_h: float, *, outbid: float) -> Market:
    spike = replace(
        market.price,
        spike_from_h=from_h,
        spike_to_h=to_h,
        spike_price_mult=1.5,
        spike_outbid_mult=outbid,
    )
    return replace(market, price=spike)


def with_outage(market: Market, from_h: float, hours: float) -> Market:
    outage = replace(market.regions, outage_chance=1.0, outage_from_h=from_h, outage_hours=hours)
    return replace(market, regions=outage)


# The figures that the ordinary market was written down with.


def test_about_86_offers_stand_at_the_start_and_780_come_in_a_day() -> None:
    assert 80 <= mean(len(night.listed(0.0)) for night in NIGHTS) <= 92
    assert 740 <= mean(len(night.stretches) for night in NIGHTS) <= 820


def test_start_up_takes_minutes_with_a_heavy_tail() -> None:
    minutes = sorted(stretch.startup_s / 60 for stretch in STRETCHES)

    p10, p50, p90, p99 = (minutes[int(len(minutes) * q)] for q in (0.1, 0.5, 0.9, 0.99))

    assert p10 == pytest.approx(3.7, rel=0.1)
    assert p50 == pytest.approx(8, rel=0.1)
    assert p90 == pytest.approx(24, rel=0.15)
    assert p99 == pytest.approx(124, rel=0.25)


def test_one_start_in_fourteen_fails_and_half_of_those_within_minutes() -> None:
    failed = [stretch for stretch in STRETCHES if stretch.boot is not Boot.OK]
    early = [stretch for stretch in failed if stretch.boot is Boot.EARLY]

    assert len(failed) / len(STRETCHES) == pytest.approx(0.073, abs=0.01)
    assert len(early) / len(failed) == pytest.approx(0.5, abs=0.06)
    assert max(stretch.boot_fails_s for stretch in early) <= 300


def test_leases_are_lost_at_the_rates_of_the_file() -> None:
    good = [stretch for stretch in STRETCHES if not stretch.is_bad_host]
    night = NIGHTS[0]  # rates are the market's; thresholds are the stretches'

    hours = {
        kind: mean(night.death_s(one, kind, 0.0) / HOUR_S for one in good)
        for kind in (Kind.ON_DEMAND, Kind.INTERRUPTIBLE)
    }

    assert hours[Kind.ON_DEMAND] == pytest.approx(1 / 0.010, rel=0.1)
    assert hours[Kind.INTERRUPTIBLE] == pytest.approx(1 / 0.130, rel=0.1)


def test_machines_of_one_class_differ_by_luck() -> None:
    luck = sorted(
        math.log(one.s_per_job / one.prior_s_per_job) for night in NIGHTS for one in night.machines
    )

    assert luck[len(luck) // 2] == pytest.approx(0.0, abs=0.03)
    assert luck[int(len(luck) * 0.16)] == pytest.approx(-0.17, abs=0.03)
    assert mean(one > math.log(1.7) for one in luck) == pytest.approx(0.03, abs=0.01)


def test_bad_hosts_are_few_cheaper_and_look_a_little_less_reliable() -> None:
    machines = [one for night in NIGHTS for one in night.machines]
    bad = [one for one in machines if one.is_bad_host]
    good = [one for one in machines if not one.is_bad_host]

    assert len(bad) / len(machines) == pytest.approx(0.06, abs=0.012)
    assert mean(one.reliability for one in good) == pytest.approx(60 / 61, abs=0.003)
    assert mean(one.reliability for one in bad) == pytest.approx(12 / 13, abs=0.02)


# The same night for everybody.


@given(seed=seeds)
def test_a_seed_tells_one_story(seed: int) -> None:
    market = only(ORDINARY, "L40S", 5)

    one, again = (Night(market, seed=seed, horizon_s=8 * HOUR_S) for _ in range(2))
    other = Night(market, seed=seed + 1, horizon_s=8 * HOUR_S)

    assert one.stretches == again.stretches
    assert one.stretches != other.stretches or not one.stretches


@given(seed=seeds)
def test_a_machine_tells_the_same_story_whoever_else_is_there(seed: int) -> None:
    few = Night(only(ORDINARY, "L40S", 4), seed=seed, horizon_s=8 * HOUR_S)
    many = Night(only(ORDINARY, "L40S", 9), seed=seed, horizon_s=8 * HOUR_S)

    names = {one.name for one in few.machines}
    assert few.stretches == tuple(one for one in many.stretches if one.machine in names)


@given(seed=seeds)
def test_a_longer_night_begins_like_a_shorter_one(seed: int) -> None:
    market = only(ORDINARY, "L40S", 4)
    short = Night(market, seed=seed, horizon_s=3 * HOUR_S)
    long = Night(market, seed=seed, horizon_s=24 * HOUR_S)

    assert short.stretches == tuple(one for one in long.stretches if one.listed_s < 3 * HOUR_S)


@given(seed=seeds, draw=st.data())
def test_what_one_draw_is_for_shifts_no_other(seed: int, draw: st.DataObject) -> None:
    """A market where starts fail far more often has the same prices, speeds and listings."""
    market = only(ORDINARY, "L40S", 4)
    worse = replace(
        market, failure=replace(market.failure, boot_fail_good=draw.draw(st.floats(0, 1)))
    )

    def told(one: Market) -> list[tuple[object, ...]]:
        night = Night(one, seed=seed, horizon_s=8 * HOUR_S)
        return [
            (part.ref, part.listed_s, part.on_demand_usd_h, part.s_per_job, part.pull_s)
            for part in night.stretches
        ]

    assert told(market) == told(worse)


def test_two_nights_can_meet_the_same_machines() -> None:
    first = Night(ORDINARY, seed=1, horizon_s=HOUR_S)
    second = Night(ORDINARY, seed=2, horizon_s=HOUR_S, fleet_seed=1)

    assert first.machines == second.machines
    assert first.stretches != second.stretches


@pytest.mark.parametrize("name", SHIPPED)
def test_stretches_come_in_order_under_unique_names_and_never_overlap(name: str) -> None:
    night = Night(shipped_market(name), seed=3, horizon_s=24 * HOUR_S)

    assert list(night.stretches) == sorted(night.stretches, key=lambda one: one.listed_s)
    assert len({one.ref for one in night.stretches}) == len(night.stretches)
    last: dict[str, float] = {}
    for stretch in night.stretches:
        assert last.get(stretch.machine, 0.0) <= stretch.listed_s < stretch.gone_s
        last[stretch.machine] = stretch.gone_s


# Prices and ends.


@given(
    rented_h=st.floats(0, 10),
    from_h=st.floats(0, 6),
    lasts_h=st.floats(0.01, 6),
    outbid=st.floats(0, 20),
    index=st.integers(0, 50),
)
def test_the_hazard_until_the_end_adds_up_to_the_threshold(
    rented_h: float, from_h: float, lasts_h: float, outbid: float, index: int
) -> None:
    to_h = from_h + lasts_h
    market = with_spike(ORDINARY, from_h, to_h, outbid=outbid)
    market = replace(market, hazard=replace(market.hazard, od_good_per_h=0.0, od_bad_per_h=0.0))
    night = Night(only(market, "RTX_4090", 40), seed=1, horizon_s=HOUR_S)
    stretch = night.stretches[index % len(night.stretches)]

    end_h = night.death_s(stretch, Kind.INTERRUPTIBLE, rented_h * HOUR_S) / HOUR_S

    inside = max(0.0, min(end_h, to_h) - max(rented_h, from_h))
    used = 0.12 * (end_h - rented_h + (outbid - 1) * inside)
    assert used == pytest.approx(stretch.death_interruptible)
    assert night.death_s(stretch, Kind.ON_DEMAND, rented_h * HOUR_S) == math.inf


@given(index=st.integers(0, len(STRETCHES) - 1), one=st.floats(0, 9e4), other=st.floats(0, 9e4))
def test_whoever_rents_later_loses_later_and_bidders_lose_first(
    index: int, one: float, other: float
) -> None:
    stretch, early, late = STRETCHES[index], min(one, other), max(one, other)
    night = NIGHTS[0]

    for kind in (Kind.ON_DEMAND, Kind.INTERRUPTIBLE):
        assert early <= night.death_s(stretch, kind, early) <= night.death_s(stretch, kind, late)
    on_demand = night.death_s(stretch, Kind.ON_DEMAND, early)
    assert night.death_s(stretch, Kind.INTERRUPTIBLE, early) <= on_demand


def test_a_region_that_is_dark_loses_its_leases_and_lists_nothing() -> None:
    night = Night(with_outage(ORDINARY, 2.0, 1.0), seed=1, horizon_s=24 * HOUR_S)
    assert night.outage is not None
    dark = night.outage.window
    assert (dark.from_s, dark.to_s) == (2 * HOUR_S, 3 * HOUR_S)

    there = [one for one in night.stretches if one.region == night.outage.region]

    assert there
    assert not any(one.listed_s < dark.to_s and one.gone_s > dark.from_s for one in there)
    assert all(night.death_s(one, Kind.ON_DEMAND, 0.0) <= dark.from_s for one in there)
    assert any(night.death_s(one, Kind.ON_DEMAND, dark.to_s) > dark.to_s for one in there)
    assert any(night.death_s(one, Kind.ON_DEMAND, 0.0) > dark.from_s for one in night.stretches)


def test_an_outage_given_as_a_share_begins_before_the_deadline() -> None:
    market = with_outage(ORDINARY, 0.3, 1.0)
    for seed in range(20):
        night = Night(market, seed=seed, horizon_s=24 * HOUR_S, deadline_s=8 * HOUR_S)
        assert night.outage is not None
        assert 0.3 * 8 * HOUR_S <= night.outage.window.from_s <= 8 * HOUR_S


def test_a_spike_makes_what_is_rented_in_it_dearer() -> None:
    night = Night(with_spike(ORDINARY, 1.0, 2.0, outbid=1.0), seed=1, horizon_s=HOUR_S)
    stretch = night.stretches[0]

    before, inside, after = (
        night.gpu_usd_h(stretch, Kind.ON_DEMAND, hour * HOUR_S) for hour in (0.5, 1.5, 2.5)
    )

    assert before == after == stretch.on_demand_usd_h
    assert inside == 1.5 * before
    assert not night.is_steady


@pytest.mark.parametrize("name", SHIPPED)
def test_nobody_bids_above_the_price_on_demand(name: str) -> None:
    night = Night(shipped_market(name), seed=1, horizon_s=8 * HOUR_S)

    for stretch in night.stretches:
        bid = night.gpu_usd_h(stretch, Kind.INTERRUPTIBLE, 0.0)
        assert 0 < bid <= night.gpu_usd_h(stretch, Kind.ON_DEMAND, 0.0)
        assert bid >= stretch.min_bid_usd_h * min(1.0, night.market.price.spike_price_mult)
