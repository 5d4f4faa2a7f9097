"""Who may take a machine away: nobody, from a run that lives."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.core.model import LeaseId
from nightkiln.core.reaping import (
    SEARCH_S,
    UNKNOWN_S,
    Cause,
    Fate,
    Known,
    Machine,
    ReapRules,
    Sign,
    answering,
    billed_until_s,
    judge,
    judge_missing,
)

NOW_S = 1_000_000.0
RULES = ReapRules("main", 900.0, usd_per_hour_max=Decimal("2.00"))
MACHINE = Machine(LeaseId("parti-1-lease-001"), "main", Decimal("0.40"), NOW_S - 3000)
ALIVE = Sign(1, NOW_S - 10)
KNOWN = Known(NOW_S - 3000, NOW_S + 600, Decimal("0.40"), run=ALIVE)
OLD = replace(MACHINE, since_s=NOW_S - UNKNOWN_S - 1)


@pytest.mark.parametrize(
    ("machine", "known", "fate", "cause"),
    [
        (MACHINE, KNOWN, Fate.KEEP, Cause.IN_USE),
        (replace(MACHINE, fleet="staging"), KNOWN, Fate.FOREIGN, Cause.OTHER_FLEET),
        (replace(OLD, fleet="staging"), None, Fate.FOREIGN, Cause.OTHER_FLEET),
        (MACHINE, None, Fate.FOREIGN, Cause.UNKNOWN),
        (replace(MACHINE, since_s=None), None, Fate.FOREIGN, Cause.UNKNOWN),
        (OLD, None, Fate.END, Cause.UNKNOWN_AND_OLD),
        (OLD, KNOWN, Fate.KEEP, Cause.IN_USE),
        (MACHINE, replace(KNOWN, has_ended=True), Fate.KEEP, Cause.IN_USE),
        (MACHINE, replace(KNOWN, has_ended=True, run=None), Fate.END, Cause.STILL_BILLED),
        (MACHINE, replace(KNOWN, run=replace(ALIVE, has_ended=True)), Fate.END, Cause.RUN_ENDED),
        (MACHINE, replace(KNOWN, run=Sign(1, NOW_S - 901)), Fate.END, Cause.RUN_SILENT),
        (MACHINE, replace(KNOWN, run=Sign(1, NOW_S - 900)), Fate.KEEP, Cause.IN_USE),
        (MACHINE, replace(KNOWN, run=Sign(1, NOW_S + 500)), Fate.KEEP, Cause.IN_USE),
        (MACHINE, replace(KNOWN, run=None), Fate.END, Cause.RUN_SILENT),
        (MACHINE, replace(KNOWN, run=None, asked_s=NOW_S - 5), Fate.KEEP, Cause.IN_USE),
        (MACHINE, replace(KNOWN, expires_s=NOW_S - 1), Fate.END, Cause.EXPIRED),
        (replace(MACHINE, usd_per_hour=Decimal("2.01")), KNOWN, Fate.END, Cause.TOO_DEAR),
        (
            replace(MACHINE, usd_per_hour=Decimal("2.01")),
            replace(KNOWN, usd_per_hour=Decimal("2.00")),
            Fate.KEEP,
            Cause.IN_USE,
        ),
    ],
)
def test_what_becomes_of_a_machine_that_is_billed(
    machine: Machine, known: Known | None, fate: Fate, cause: Cause
) -> None:
    verdict = judge(machine, known, RULES, now_s=NOW_S)

    assert (verdict.fate, verdict.cause) == (fate, cause)
    assert verdict.said


@pytest.mark.parametrize(
    ("known", "fate", "cause"),
    [
        (replace(KNOWN, asked_s=NOW_S - 5), Fate.KEEP, Cause.STARTING),
        (KNOWN, Fate.KEEP, Cause.MISSING),
        (replace(KNOWN, has_ended=True), Fate.KEEP, Cause.CLOSED),
        (replace(KNOWN, has_ended=True, run=None), Fate.CLOSE, Cause.CLOSED),
        (replace(KNOWN, run=replace(ALIVE, has_ended=True)), Fate.CLOSE, Cause.GONE),
        (replace(KNOWN, run=None), Fate.CLOSE, Cause.GONE),
        (
            replace(KNOWN, asked_s=NOW_S - SEARCH_S, run=Sign(1, NOW_S - 1, has_ended=True)),
            Fate.KEEP,
            Cause.STARTING,
        ),
    ],
)
def test_what_becomes_of_a_lease_that_is_not_billed(known: Known, fate: Fate, cause: Cause) -> None:
    verdict = judge_missing(known, RULES, now_s=NOW_S)

    assert (verdict.fate, verdict.cause) == (fate, cause)


def test_the_newest_run_of_a_batch_answers_for_all_of_its_leases() -> None:
    killed, successor = Sign(1, NOW_S - 5000), Sign(2, NOW_S - 3)

    assert answering([successor, killed], 1) is successor
    assert answering([killed], 1) is killed
    assert answering([killed], 2) is None


def test_a_lease_that_a_successor_adopted_is_not_taken_for_its_dead_owner() -> None:
    run = answering([Sign(1, NOW_S - 5000), Sign(2, NOW_S - 3)], 1)

    assert judge(MACHINE, replace(KNOWN, run=run), RULES, now_s=NOW_S).fate is Fate.KEEP


TIMES = st.floats(NOW_S - 10 * UNKNOWN_S, NOW_S + UNKNOWN_S, allow_nan=False)
PRICES = st.decimals(Decimal("0.01"), Decimal(2), places=3)
MACHINES = st.builds(
    Machine, st.just(LeaseId("l")), st.sampled_from(["main", "staging"]), PRICES, st.none() | TIMES
)
SIGNS = st.builds(Sign, st.integers(1, 3), TIMES, st.booleans())
KNOWNS = st.builds(Known, TIMES, TIMES, PRICES, st.booleans(), st.none() | SIGNS)


@given(MACHINES, st.none() | KNOWNS)
def test_a_machine_is_only_ended_for_a_reason_that_its_own_run_would_agree_with(
    machine: Machine, known: Known | None
) -> None:
    verdict = judge(machine, known, RULES, now_s=NOW_S)

    if verdict.fate is not Fate.END:
        return
    assert machine.fleet == "main"
    if known is None:
        assert machine.since_s is not None
        assert NOW_S - machine.since_s > RULES.unknown_s
        return
    run = known.run
    is_over = (run is not None and run.has_ended) or known.expires_s < NOW_S
    last_s = max(run.alive_s, known.asked_s) if run is not None else known.asked_s
    assert is_over or NOW_S - last_s > RULES.silence_s


@given(MACHINES, KNOWNS, st.floats(0, 900, exclude_max=True))
def test_nothing_is_taken_from_a_run_that_lives(
    machine: Machine, known: Known, silent_s: float
) -> None:
    """Whatever else is so: a nightly runs, an ad-hoc run starts on the same account, reap fires."""
    living = replace(
        known,
        expires_s=max(known.expires_s, NOW_S),
        run=Sign(3, NOW_S - silent_s),
    )

    assert judge(machine, living, RULES, now_s=NOW_S).fate in {Fate.KEEP, Fate.FOREIGN}
    assert judge_missing(living, RULES, now_s=NOW_S).fate is Fate.KEEP


@given(KNOWNS)
def test_what_nobody_saw_end_is_counted_at_most_until_it_must_have(known: Known) -> None:
    until_s = billed_until_s(known, silence_s=RULES.silence_s, now_s=NOW_S)

    assert known.asked_s <= until_s
    assert until_s <= max(known.asked_s, min(known.expires_s, NOW_S))


@given(MACHINES, KNOWNS)
def test_what_is_an_orphan_stays_one(machine: Machine, known: Known) -> None:
    """Time alone rescues nothing: a sweep that comes later ends it, too."""
    before = judge(machine, known, RULES, now_s=NOW_S)

    if before.fate is Fate.END:
        assert judge(machine, known, RULES, now_s=NOW_S + 900).fate is Fate.END
