"""What a night may have of a month's money."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.core.errors import Problem
from nightkiln.core.monthly import Month, is_about_month

NOVEMBER = Month("2026-11", limit=Decimal(100), spent=Decimal("97.204"))
USD = st.decimals(min_value=0, max_value=1000, places=6)


def test_what_is_left_is_told_in_whole_cents_and_never_rounded_up() -> None:
    assert NOVEMBER.left == Decimal("2.79")
    assert NOVEMBER.told() == ("97.20 of 100.00 USD are spent in 2026-11; 2.79 USD are left")


def test_what_others_at_work_may_still_spend_is_not_left() -> None:
    shared = replace(NOVEMBER, held=Decimal(2))

    assert shared.left == Decimal("0.79")
    assert "and 2.00 are kept for others at work" in shared.told()


@pytest.mark.parametrize("usd_p90", [None, 0.5, 2.79])
def test_a_night_that_keeps_within_the_rest_may_begin(usd_p90: float | None) -> None:
    assert NOVEMBER.objection(usd_p90=usd_p90) is None


def test_a_night_that_needs_more_than_the_rest_is_refused_with_all_figures() -> None:
    problem = NOVEMBER.objection(usd_p90=5.0)

    assert problem is not None
    assert is_about_month(problem)
    assert str(problem).startswith("budget_per_month 100: 97.20 of 100.00 USD are spent in 2026-11")
    assert "2.79 USD are left, less than 5.00 USD" in problem.what
    assert "NIGHTKILN_BUDGET_PER_MONTH" in problem.fix


def test_a_month_that_is_spent_refuses_also_what_was_not_quoted() -> None:
    over = replace(NOVEMBER, spent=Decimal("123.4"))

    assert over.left == 0
    assert over.objection() is not None
    assert not is_about_month(Problem("--budget 4", "is less than 5 USD"))


@given(limit=USD, spent=USD, held=USD)
def test_a_month_never_gives_more_than_it_has(
    limit: Decimal, spent: Decimal, held: Decimal
) -> None:
    month = Month("2026-11", limit, spent, held)

    assert 0 <= month.left <= limit
    assert month.left == 0 or month.left + month.spent + month.held <= limit
