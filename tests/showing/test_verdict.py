"""The state that a flow run ends in."""

from __future__ import annotations

from typing import Any

import pytest

from nightkiln.allotment import STOPPED
from nightkiln.heeding import ASKED
from nightkiln.outcome import ALL_DONE, SOME_FAILED, STOPPED_EARLY, Outcome
from tasks.batch import verdict

BUDGET = "budget 4.00 USD is spent"


def outcome(exit_code: int, *, left: int = 0, why: str | None = None) -> Outcome:
    return Outcome(
        batch="night-1of2",
        epoch=1,
        store="/store",
        exit_code=exit_code,
        total=12,
        done=12 - left,
        reused=0,
        failed=0,
        left=left,
        adopted=0,
        outputs=12 - left,
        elapsed_s=1.0,
        stop_reason=why,
    )


def ended(told: Outcome, *, is_cancelled: bool = False) -> str:
    state: Any = verdict(told, is_cancelled=is_cancelled)
    return str(state.type.value)


@pytest.mark.parametrize("why", [STOPPED, ASKED])
def test_a_share_of_a_night_that_was_stopped_is_cancelled_as_its_night_is(why: str) -> None:
    assert ended(outcome(STOPPED_EARLY, left=3, why=why)) == "CANCELLED"


def test_a_share_that_stopped_for_another_reason_has_failed() -> None:
    assert ended(outcome(STOPPED_EARLY, left=3, why=BUDGET)) == "FAILED"


def test_a_share_that_had_done_everything_when_its_night_was_stopped_is_completed() -> None:
    assert ended(outcome(ALL_DONE)) == "COMPLETED"


def test_failed_jobs_are_a_failure_also_of_a_run_that_was_cancelled() -> None:
    assert ended(outcome(SOME_FAILED), is_cancelled=True) == "FAILED"
