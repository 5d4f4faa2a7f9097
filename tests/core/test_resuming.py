"""A run that crashed is begun again once, within what it was held to."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from nightkiln.core.resuming import (
    MARGIN_S,
    Crash,
    budget_again,
    budget_left,
    is_to_look_again,
    objection,
)
from nightkiln.core.sharing import Fate, Part, Start, first_limit

NOW_S = 1_800_000_000.0
HOUR_S, STALE_S = 3600.0, 60.0
cents = st.integers(0, 1300).map(lambda cents: Decimal(cents) / 100)
CRASH = Crash("CRASHED", ("nightkiln", "nightly"))


def test_a_run_that_crashed_is_resumed_with_its_deadline_and_the_rest_of_its_budget() -> None:
    crash = replace(CRASH, by_s=NOW_S + HOUR_S, budget=Decimal("5.00"), spent=Decimal("1.2345"))

    assert objection(crash, now_s=NOW_S) is None
    assert budget_left(crash) == Decimal("3.76"), "a part of a cent is not spent twice"


def test_without_a_budget_none_is_made_up() -> None:
    assert objection(CRASH, now_s=NOW_S) is None
    assert budget_left(CRASH) is None


def test_a_run_that_was_itself_resumed_is_not_resumed_again() -> None:
    crash = replace(CRASH, tags=("nightkiln", "resumes:0f0e"))

    assert "itself resumed" in str(objection(crash, now_s=NOW_S))


def test_what_is_over_or_alive_by_now_is_left_alone() -> None:
    assert objection(replace(CRASH, state="COMPLETED"), now_s=NOW_S) == "it is Completed by now"
    alive = replace(CRASH, at_work="host (process 7)")
    assert "worked on by host (process 7)" in str(objection(alive, now_s=NOW_S))


def test_a_deadline_that_has_come_is_not_moved_to_the_next_day() -> None:
    crash = replace(CRASH, by_s=NOW_S + 30)

    assert objection(crash, now_s=NOW_S) == "its deadline has come"


def test_a_budget_that_is_spent_is_not_spent_again() -> None:
    crash = replace(CRASH, budget=Decimal(5), spent=Decimal("5.50"))

    assert objection(crash, now_s=NOW_S) == "its budget of 5 USD is spent"
    assert budget_left(crash) == 0


def test_what_was_agreed_to_holds_for_who_goes_on_and_never_raises_the_budget() -> None:
    crash = replace(CRASH, budget=Decimal(12), agreed=Decimal("5.00"), spent=Decimal("1.25"))

    assert budget_left(crash) == Decimal("3.75")
    assert budget_left(replace(crash, agreed=Decimal(20))) == Decimal("10.75")
    spent = replace(crash, spent=Decimal(6))
    assert objection(spent, now_s=NOW_S) == "its budget of 5.00 USD is spent"


def test_what_the_next_run_counts_itself_is_not_taken_off_beforehand() -> None:
    crash = replace(CRASH, budget=Decimal(12), spent=Decimal(7), recounted=Decimal(4))

    assert budget_left(crash) == Decimal(5)
    assert budget_again(crash) == Decimal(9)
    spent = replace(crash, spent=Decimal(12), recounted=Decimal(12))
    assert objection(spent, now_s=NOW_S) == "its budget of 12 USD is spent"


@given(closed=cents, in_round=cents)
def test_a_night_of_several_controllers_never_comes_to_more_than_its_budget(
    closed: Decimal, in_round: Decimal
) -> None:
    """A start of the open round spent some of it; what a new one may have is what nobody has."""
    whole = Decimal(12)
    died = Start(Fate.LOST, limit=in_round, most=in_round, ledger_usd=in_round)
    crash = replace(CRASH, budget=whole, spent=closed + in_round, recounted=in_round)
    left = budget_left(crash)

    again = budget_again(crash)

    assert again is not None
    assert left == max(Decimal(0), first_limit(again, [Part((died,), left=10)], 0))
    assert closed + in_round + left <= max(whole, closed + in_round)


def test_a_fresh_run_without_a_name_is_nothing_that_could_go_on() -> None:
    assert "begin it again" in str(objection(replace(CRASH, is_nameless=True), now_s=NOW_S))


def test_a_claim_that_may_outlive_its_process_is_looked_at_again_until_it_is_stale() -> None:
    seen = replace(CRASH, at_work="host (process 7)")

    assert looks_again(seen, waited_s=0.0)
    assert looks_again(seen, waited_s=STALE_S), "clocks differ"
    assert not looks_again(seen, waited_s=STALE_S + MARGIN_S), "somebody does work on it"


def test_once_it_is_known_who_works_nobody_looks_again() -> None:
    seen = replace(CRASH, at_work="host (process 7)")

    assert not looks_again(seen, is_heard=True)
    assert not looks_again(replace(seen, at_work=""))
    assert not looks_again(replace(seen, state="SCHEDULED")), "somebody has pressed Retry"


def looks_again(crash: Crash, *, waited_s: float = 3.0, is_heard: bool = False) -> bool:
    return is_to_look_again(crash, is_heard=is_heard, waited_s=waited_s, stale_s=STALE_S)
