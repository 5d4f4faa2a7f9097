"""Stories: whatever a scheduler is told or says comes back as it was, and leads to the same."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.core.events import (
    Command,
    Event,
    Failed,
    Offered,
    ProviderFacts,
    Queued,
    Rent,
    Rented,
    Started,
    Submit,
    Tick,
)
from nightkiln.core.learning import Pace, Scores
from nightkiln.core.model import AttemptId, Fault, JobId, Kind, Lease, Offer
from nightkiln.core.priors import Priors
from nightkiln.core.story import Cut, Line, Opening, Step, line_from_json, line_to_json, replay
from nightkiln.core.terms import Late, Terms
from tests.nested import nested

AMOUNTS = st.decimals(-1000, 1000, places=6) | st.sampled_from(
    [Decimal("NaN"), Decimal("Infinity")]
)
st.register_type_strategy(Decimal, AMOUNTS)

EVENTS = st.one_of(*map(st.from_type, get_args(Event)))
COMMANDS = st.one_of(*map(st.from_type, get_args(Command)))
STEPS = st.builds(Step, EVENTS, st.lists(COMMANDS, max_size=2).map(tuple), st.none() | st.text())
JSON = nested(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    keys=st.text(),
)
NEAR = Offer("local", "http://near", slots=2)
DEAR = Offer("cloud", "gpu-1", "RTX 4090", Decimal("0.40"), kind=Kind.ON_DEMAND)


def opening(**more: Any) -> Opening:
    facts: dict[str, Any] = {
        "batch": "night", "epoch": 1, "nightkiln": "1", "began_s": 1e9, "clock_s": 5.0,
        "terms": Terms("night-1", leases_max=4), "priors": Priors(), "scores": Scores(),
        "blocked": {},
    }  # fmt: skip
    return Opening(**{**facts, **more})


def told(line: Line) -> Line:
    """A line, written down and read."""
    return line_from_json(json.loads(json.dumps(line_to_json(line), allow_nan=False)))


@given(STEPS)
def test_every_event_and_command_comes_back_as_it_was(step: Step) -> None:
    assert line_to_json(told(step)) == line_to_json(step)  # a NaN equals nothing, its name does


def test_what_a_run_started_from_comes_back_as_it_was() -> None:
    terms = Terms("night-1", 4, jobs=9, deadline_s=7.5, budget=Decimal("4.00"), late=Late.FINISH)
    scores = Scores(3, {("cloud", "m-1"): Pace("RTX 4090", 2.0, 0.1)}, {("cloud", "m-2"): -0.2})
    whole = opening(
        terms=terms,
        scores=scores,
        blocked={("cloud", "m-3"): 99.0},
        priors=Priors({"RTX 4090": 4.4}),
    )

    assert told(whole) == whole
    assert told(Cut("the disk is full")) == Cut("the disk is full")


@given(JSON)
def test_what_is_no_line_of_a_story_is_refused_in_words(entry: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        line_from_json(entry)


@given(st.from_type(Offer), st.sampled_from(["provider", "usd_per_hour", "slots", "kind"]), JSON)
def test_a_line_that_was_changed_by_hand_is_read_or_refused_in_words(
    offer: Offer, name: str, value: Any
) -> None:
    entry = line_to_json(Step(Offered("cloud", (offer,))))
    entry["offers"][0][name] = value

    try:
        found = line_from_json(entry)
    except ValueError as error:
        said = str(error)
    else:
        said = repr(found)
    assert name in said


def test_a_story_that_names_what_cannot_be_says_where() -> None:
    entry = line_to_json(opening())

    with pytest.raises(ValueError, match="terms: no such Terms can be"):
        line_from_json({**entry, "terms": {**entry["terms"], "leases_max": 0}})
    with pytest.raises(ValueError, match="Terms has no bidget"):
        line_from_json({**entry, "terms": {**entry["terms"], "bidget": "4"}})
    with pytest.raises(ValueError, match="leases_max missing"):
        line_from_json({**entry, "terms": {"run_label": "x"}})
    with pytest.raises(ValueError, match="version 99"):
        line_from_json({**entry, "opening": 99})


def test_a_night_under_rules_that_are_no_more_can_still_be_read() -> None:
    entry = line_to_json(opening())
    entry["terms"]["rules"]["boldness"] = 0.5
    entry["priors"]["phase_of_the_moon"] = 0.25

    assert line_from_json(entry) == opening(outdated=("boldness", "phase_of_the_moon"))


def night(start: Opening) -> list[Step]:
    """A short run with a failure in it, as its story has it."""
    scheduler, steps = start.scheduler(), []

    def hear(event: Event) -> list[Command]:
        commands = scheduler.handle(event)
        steps.append(Step(event, tuple(commands)))
        return commands

    hear(Started(5.0, (ProviderFacts("local", bills=False),)))
    hear(Queued((JobId("a"), JobId("b")), is_last=True))
    [rent] = [each for each in hear(Offered("local", (NEAR,))) if isinstance(each, Rent)]
    for command in hear(Rented(Lease(rent.lease_id, NEAR))):
        if isinstance(command, Submit):
            hear(Failed(command.attempt_id, Fault.JOB, "rejected", "no such node"))
    hear(Tick(9.0))
    return steps


def test_the_same_events_lead_to_the_same_commands() -> None:
    steps = night(opening())

    found = replay(opening(), steps)

    assert found.difference is None
    assert found.events == len(steps) > 5
    assert found.commands == sum(len(step.commands) for step in steps)


def test_the_first_command_that_does_not_follow_is_shown() -> None:
    steps = night(opening())
    steps[3] = Step(steps[3].event, steps[3].commands[:1])

    found = replay(opening(), steps).difference

    assert found is not None
    assert (found.number, found.told) == (4, steps[3].commands)
    assert len(found.derived) > 1


def test_a_rule_that_broke_breaks_again_and_that_is_the_same_story() -> None:
    stranger = Offered("nobody", (DEAR,))
    broke = Step(stranger, error="KeyError: 'nobody'")

    assert replay(opening(), [broke]).difference is None
    found = replay(opening(), [Step(stranger)]).difference
    assert found is not None
    assert found.derived_error == "KeyError: 'nobody'"


def test_a_story_that_was_cut_says_so() -> None:
    steps: list[Step | Cut] = [*night(opening())[:2], Cut("the disk is full")]

    found = replay(opening(), steps)

    assert (found.events, found.difference, found.cut) == (2, None, "the disk is full")


def test_an_attempt_that_nobody_made_changes_nothing() -> None:
    scheduler = opening().scheduler()
    scheduler.handle(Started(5.0, ()))

    late = Failed(AttemptId("night-1-0000007"), Fault.JOB, "rejected", "late")
    assert [type(each).__name__ for each in scheduler.handle(late)] in ([], ["FetchJobs"])
