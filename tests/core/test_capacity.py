"""What a lost machine costs of its time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nightkiln.core.capacity import gap_s
from nightkiln.core.terms import Rules

RULES = Rules()


def test_where_as_many_machines_are_on_offer_as_we_have_one_is_soon_replaced() -> None:
    assert gap_s(RULES, on_offer=5, ours=5) == RULES.gap_s
    assert gap_s(RULES, on_offer=500, ours=5) == RULES.gap_s


def test_where_none_is_on_offer_it_takes_longest() -> None:
    assert gap_s(RULES, on_offer=0, ours=5) == RULES.gap_s_max


@given(on_offer=st.integers(0, 100), ours=st.integers(0, 100))
def test_one_more_on_offer_never_makes_it_longer(on_offer: int, ours: int) -> None:
    gap = gap_s(RULES, on_offer=on_offer, ours=ours)

    assert RULES.gap_s <= gap <= RULES.gap_s_max
    assert gap_s(RULES, on_offer=on_offer + 1, ours=ours) <= gap
