"""Who is asked before money is spent, for how long, and what an answer means."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.core.approval import (
    Answer,
    Decision,
    Rules,
    Unanswered,
    Word,
    decision,
    falls_short,
    is_too_late,
    must_ask,
    wait_s,
)

RULES = Rules(above=Decimal(5), within_s=3600.0)
PART = replace(RULES, unanswered=Unanswered.PART)
BUDGET = Decimal(12)
USD = st.decimals(min_value=Decimal("0.01"), max_value=1000, places=2)


@pytest.mark.parametrize(("usd_p90", "asked"), [(4.99, False), (5.0, False), (5.01, True)])
def test_only_a_quote_above_the_amount_is_asked_about(usd_p90: float, *, asked: bool) -> None:
    assert must_ask(RULES, usd_p90=usd_p90) is asked


def test_without_an_amount_nobody_is_asked() -> None:
    assert not must_ask(Rules(above=Decimal(0), within_s=60.0), usd_p90=1e6)


def test_the_answer_is_waited_for_no_longer_than_half_of_what_the_deadline_leaves() -> None:
    assert wait_s(RULES, left_s=None) == 3600.0
    assert wait_s(RULES, left_s=8 * 3600.0) == 3600.0
    assert wait_s(RULES, left_s=600.0) == 300.0
    assert wait_s(RULES, left_s=-5.0) == 0.0


def test_yes_gives_the_budget_and_yes_with_a_cap_gives_the_cap() -> None:
    assert decision(RULES, Answer(is_yes=True), budget=BUDGET) == Decision(Word.APPROVED, BUDGET)
    capped = decision(RULES, Answer(is_yes=True, cap=Decimal(8)), budget=BUDGET)
    assert capped == Decision(Word.APPROVED, Decimal(8))


@pytest.mark.parametrize(
    "answer",
    [Answer(is_yes=False), Answer(is_yes=False, cap=BUDGET), Answer(is_yes=True, cap=Decimal(0))],
)
def test_no_and_a_cap_of_nothing_refuse_also_where_silence_would_render_a_part(
    answer: Answer,
) -> None:
    for rules in (RULES, PART):
        refused = decision(rules, answer, budget=BUDGET)
        assert (refused.word, refused.may_spend) == (Word.REFUSED, False)


def test_silence_refuses_or_renders_the_part_that_needs_no_word() -> None:
    assert not decision(RULES, None, budget=BUDGET).may_spend
    assert decision(PART, None, budget=BUDGET) == Decision(Word.PART, Decimal(5))


@given(
    budget=USD,
    above=USD,
    unanswered=st.sampled_from(Unanswered),
    answer=st.none() | st.builds(Answer, st.booleans(), st.none() | USD),
)
def test_no_answer_ever_lets_more_be_spent_than_the_budget_or_than_was_said(
    budget: Decimal, above: Decimal, unanswered: Unanswered, answer: Answer | None
) -> None:
    found = decision(Rules(above, 60.0, unanswered), answer, budget=budget)

    assert Decimal(0) <= found.budget <= budget
    if answer is None:
        assert found.budget <= above
    elif not answer.is_yes:
        assert found.budget == 0
    elif answer.cap is not None:
        assert found.budget <= answer.cap


def test_an_answer_that_leaves_less_than_a_minute_is_too_late_unless_it_may_be_late() -> None:
    assert is_too_late(59.0, may_be_late=False)
    assert not is_too_late(61.0, may_be_late=False)
    assert not is_too_late(-600.0, may_be_late=True)
    assert not is_too_late(None, may_be_late=False)


def test_money_that_sufficed_when_it_was_asked_for_has_to_suffice_when_it_is_given() -> None:
    assert falls_short(BUDGET, p90_asked=11.0, p90_now=13.0)
    assert not falls_short(BUDGET, p90_asked=11.0, p90_now=12.0)


def test_who_agreed_to_a_part_gets_a_part() -> None:
    assert not falls_short(Decimal(8), p90_asked=11.0, p90_now=13.0)
