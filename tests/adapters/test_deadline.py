"""``--by``: a time of day, a duration, a date with a time."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.core.errors import BadInput
from nightkiln.deadline import DEADLINE_S_MAX, seconds_until

EVENING_S = datetime(2026, 11, 21, 22, 0, tzinfo=UTC).timestamp()
H_S = 3600.0


def until(text: str, *, timezone: str = "UTC") -> float:
    return seconds_until(text, now_s=EVENING_S, timezone=timezone)


@pytest.mark.parametrize(
    ("text", "hours"), [("07:00", 9), ("22:30", 0.5), ("22:00", 24), ("07:00+02:00", 7)]
)
def test_a_time_of_day_is_the_next_one(text: str, hours: float) -> None:
    assert until(text) == hours * H_S


def test_a_time_of_day_is_read_on_the_clock_of_the_settings() -> None:
    assert until("07:00", timezone="Europe/Berlin") == 8 * H_S


def test_a_night_in_which_the_clock_is_put_back_is_an_hour_longer() -> None:
    evening_s = datetime(2026, 10, 24, 20, 0, tzinfo=UTC).timestamp()  # 22:00 in Berlin

    assert seconds_until("07:00", now_s=evening_s, timezone="Europe/Berlin") == 10 * H_S


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("1.5h", 5400), ("45s", 45)]
)
def test_a_duration_counts_from_now(text: str, seconds: float) -> None:
    assert until(text) == seconds


def test_a_date_with_a_time_is_that_moment() -> None:
    assert until("2026-11-23T07:00") == 33 * H_S
    assert until("2026-11-23T07:00+01:00") == 32 * H_S


@pytest.mark.parametrize("text", ["0h", "2026-11-21T21:59", "2020-01-01T00:00"])
def test_a_deadline_in_the_past_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="not in the future"):
        until(text)


@pytest.mark.parametrize("text", ["", "soon", "25:00", "h", "-2h", "2 hours", "7"])
def test_what_is_no_time_is_refused_with_what_would_be_one(text: str) -> None:
    with pytest.raises(BadInput, match="such as 07:00"):
        until(text)


def test_a_deadline_far_away_is_refused() -> None:
    with pytest.raises(BadInput, match="7 days away"):
        until("169h")


def test_a_time_zone_that_is_none_is_refused() -> None:
    with pytest.raises(BadInput, match="no time zone"):
        until("07:00", timezone="Mars/Base")


@given(st.text(max_size=20))
def test_any_text_is_a_moment_to_come_or_refused(text: str) -> None:
    with contextlib.suppress(BadInput):
        assert 0 < until(text) <= DEADLINE_S_MAX
