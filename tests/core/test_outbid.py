"""Bids are lost more often at some times of day than at others, and that is learned."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.core.learning import Knowledge, Scores
from nightkiln.core.model import Kind
from nightkiln.core.outbid import (
    DAY_S,
    FLAT,
    FLAT_WEIGHT,
    PART_S,
    PARTS,
    DayRates,
    Outbid,
    Rate,
    part_of_day,
    seconds_by_part,
)
from nightkiln.core.priors import Priors
from nightkiln.core.terms import Load
from tests.core.table import machine

GPU, HOUR_S = "RTX 4090", 3600.0
BUSY, QUIET = 6, 1  # parts of the day: from 18:00, from 03:00
RISKY = machine("risky", kind=Kind.INTERRUPTIBLE)

amounts = st.floats(0.0, 500.0)
parts = st.tuples(*[amounts] * PARTS)
times_s = st.floats(-3 * DAY_S, 3 * DAY_S)


def outbid(*, midnight_s: float | None = 0.0) -> Outbid:
    return Outbid(Priors(), {}, {}, midnight_s)


def at(part: int, hours: float = 0.0) -> float:
    """Seconds since midnight, so many hours into a part of the day."""
    return part * PART_S + hours * HOUR_S


def learn_a_week(known: Outbid, gpu: str = GPU, *, busy: int = BUSY) -> None:
    """Seven days on which a bid is lost every half hour of the busy part, and else never."""
    for day in range(7):
        for part in range(PARTS):
            for half_hour in range(6):
                until_s = day * DAY_S + at(part, (half_hour + 1) / 2) - 1.0
                known.held(gpu, 0.5, was_lost=part == busy, until_s=until_s)


def expected(known: Outbid, part: int, gpu: str = GPU) -> float:
    """Losses per hour, if the time ahead is that part of the day."""
    known.look_ahead(at(part), PART_S)
    return known.per_h(gpu)


# What is learned.


def test_a_busy_time_of_day_is_told_from_a_quiet_one() -> None:
    known = outbid()
    learn_a_week(known)

    assert expected(known, BUSY) > 4 * expected(known, QUIET) > 0


def test_what_one_class_shows_of_the_day_is_expected_of_the_others_too() -> None:
    known = outbid()
    learn_a_week(known)

    busy, quiet = expected(known, BUSY, "H100"), expected(known, QUIET, "H100")

    assert busy > 2 * quiet


def test_a_class_with_a_day_of_its_own_keeps_it() -> None:
    known = outbid()
    learn_a_week(known)
    learn_a_week(known, "H100", busy=QUIET)

    assert expected(known, QUIET, "H100") > expected(known, BUSY, "H100")
    assert expected(known, BUSY) > expected(known, QUIET)


def test_what_the_time_of_day_explains_does_not_raise_the_level() -> None:
    known, surprised = outbid(), outbid()
    learn_a_week(known)
    before, naive = expected(known, QUIET), expected(surprised, QUIET)

    for model in (known, surprised):
        model.held(GPU, 2.0, was_lost=True, until_s=at(BUSY, 2.5))

    assert expected(known, QUIET) - before < 0.1 * (expected(surprised, QUIET) - naive)


@given(st.lists(st.tuples(st.floats(0.0, 2.9), st.booleans()), max_size=20), st.integers(0, 7))
def test_nights_at_one_time_of_day_are_judged_by_their_level_alone(
    lives: list[tuple[float, bool]], part: int
) -> None:
    told_apart, alike = outbid(), outbid(midnight_s=None)
    for hours, was_lost in lives:
        for known in (told_apart, alike):
            known.held(GPU, hours, was_lost=was_lost, until_s=at(part, 2.95))

    for ahead in range(PARTS):
        assert expected(told_apart, ahead) == pytest.approx(expected(alike, ahead))


@given(times_s, st.floats(0.0, 10 * DAY_S))
def test_with_no_experience_the_prior_speaks_at_every_hour(now_s: float, left_s: float) -> None:
    known = outbid()
    known.look_ahead(now_s, left_s)

    assert known.per_h(GPU) == pytest.approx(Priors().outbid_per_h)
    assert known.per_h(GPU) == outbid(midnight_s=None).per_h(GPU)


@given(parts, parts)
def test_a_part_is_believed_between_the_flat_day_and_what_was_seen_there(
    events: tuple[float, ...], hours: tuple[float, ...]
) -> None:
    shape = DayRates(events, hours).shape(FLAT)

    if not sum(events) or not sum(hours):
        assert shape is FLAT
        return
    level = sum(events) / sum(hours)
    for factor, lost, spent in zip(shape, events, hours, strict=True):
        assert factor > 0
        assert min(level * spent, lost) <= factor * level * spent + 1e-6 * (1 + lost)
        seen_factor = lost / (level * spent) if level * spent > 0 else None
        if seen_factor is not None:
            assert min(1, seen_factor) * 0.999 <= factor <= max(1, seen_factor) * 1.001


def test_as_many_losses_as_the_belief_is_worth_move_it_half_way() -> None:
    """As many hours in two parts, and all losses in one of them."""
    events = (2 * FLAT_WEIGHT, 0.0, *[0.0] * (PARTS - 2))
    hours = (40.0, 40.0, *[0.0] * (PARTS - 2))

    assert DayRates(events, hours).shape(FLAT)[:3] == pytest.approx((1.5, 0.5, 1.0))


# When.


def test_a_lease_over_several_parts_of_the_day_is_experience_of_each() -> None:
    by_day: dict[str, DayRates] = {}
    known = Outbid(Priors(), {}, by_day, midnight_s=-at(2))  # it is 06:00

    known.held(GPU, 7.0, was_lost=True, until_s=5 * HOUR_S)  # from 04:00 to 11:00

    assert by_day[GPU] == by_day[""]
    assert by_day[GPU].hours == pytest.approx((0, 2.0, 3.0, 2.0, 0, 0, 0, 0))
    assert by_day[GPU].events == (0, 0, 0, 1, 0, 0, 0, 0)


def test_the_outlook_is_for_the_hours_that_lie_ahead() -> None:
    known = outbid()
    learn_a_week(known)
    quiet, busy = expected(known, QUIET), expected(known, BUSY)

    known.look_ahead(at(BUSY, 2.0), 2 * HOUR_S)  # an hour of it, and one of the next

    assert quiet < known.per_h(GPU) < busy
    assert known.per_h(GPU) == pytest.approx((busy + expected(known, BUSY + 1)) / 2)


@given(times_s, st.floats(0.0, 4 * DAY_S))
def test_every_second_lies_in_one_part_of_the_day(from_s: float, span_s: float) -> None:
    seconds = seconds_by_part(from_s, from_s + span_s)

    assert sum(seconds) == pytest.approx(span_s, abs=1e-6)
    assert all(each >= 0 for each in seconds)
    if span_s >= DAY_S:
        assert min(seconds) >= PART_S * 0.999
    if 1.0 < span_s < PART_S:
        ends = {part_of_day(from_s), part_of_day(from_s + span_s)}
        assert sum(seconds[part] for part in ends) == pytest.approx(span_s)


@given(st.one_of(times_s, st.sampled_from((-1e-20, 0.0, PART_S, DAY_S))))
def test_any_time_has_its_part_of_the_day(at_s: float) -> None:
    assert part_of_day(at_s) in range(PARTS)


# In a scheduler's knowledge.


def test_without_a_time_of_day_nothing_is_booked_by_it() -> None:
    unknown = Knowledge(Priors(), Load())
    unknown.held(RISKY, 1.0, was_lost=True, until_s=500.0)
    known = Knowledge(Priors(), Load(), midnight_s=0.0)
    known.held(RISKY, 1.0, was_lost=True)

    assert unknown.scores.outbid_by_day == known.scores.outbid_by_day == {}
    assert unknown.scores.outbid == known.scores.outbid == {"": Rate(1, 1), GPU: Rate(1, 1)}


def test_an_offer_by_bid_looks_worse_before_a_busy_evening() -> None:
    scores = Scores()
    learn_a_week(Outbid(Priors(), scores.outbid, scores.outbid_by_day, 0.0))
    known = Knowledge(Priors(), Load(), scores, midnight_s=0.0)

    known.look_again(at(BUSY), PART_S)
    evening = known.outlook(RISKY).lost_per_s
    known.look_again(at(QUIET), PART_S)

    assert evening > 2 * known.outlook(RISKY).lost_per_s


def test_a_class_lost_at_its_busy_time_only_is_no_worse_for_it() -> None:
    """Its level is worked out against the day that all classes have."""
    known = outbid()
    learn_a_week(known, "H100")
    for day in range(7):
        known.held(GPU, 2.9, was_lost=True, until_s=day * DAY_S + at(BUSY, 2.95))

    assert expected(known, BUSY) > 2 * expected(known, QUIET)
