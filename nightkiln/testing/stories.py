"""Bad nights as regression tests: a story from somebody's store, kept beside the tests.

``assert_replays`` holds today's rules to every single decision of the story, which is right for
rules that must not change. ``assert_sound`` tells the rules what happened that night and holds them
to what is promised for any night, so it stays true when the rules get better::

    def test_the_night_when_both_machines_hung_is_survived() -> None:
        assert_sound(Path("tests/stories/both-hung.jsonl.gz"))
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from nightkiln.core.events import Command, Event, GiveUp, Release, Rent, Rented, Submit
from nightkiln.core.model import AttemptId, JobId, LeaseId
from nightkiln.core.story import Step, command_to_json, heard, line_to_json, replay
from nightkiln.story import read_story

T = TypeVar("T")


@dataclass(slots=True)
class Facts:
    """What the rules of today did with a story's events."""

    rented: list[LeaseId] = field(default_factory=list)
    released: list[LeaseId] = field(default_factory=list)
    given_up: list[JobId] = field(default_factory=list)
    attempts: list[AttemptId] = field(default_factory=list)
    came_up: set[LeaseId] = field(default_factory=set)  # also leases that these rules never rented


def assert_replays(path: Path) -> None:
    """Every command of a story follows from its events, also today.

    Raises:
        AssertionError: one does not; with the first difference.
    """
    opening, lines = read_story(path)
    found = replay(opening, lines).difference
    if found is not None:
        event = line_to_json(Step(found.event, found.told, found.told_error))
        derived = [command_to_json(one) for one in found.derived]
        told = f"story: {json.dumps(event)}\nrules: {json.dumps(derived)} {found.derived_error}"
        raise AssertionError(f"{path} differs at event {found.number}\n{told}")


def assert_sound(path: Path) -> Facts:
    """Whatever happened in a story, no promise is broken; what was done about it.

    No assertion of the scheduler fails; a lease is rented and released at most once, and used
    only in between; a job is given up at most once; no more leases than allowed.

    Raises:
        AssertionError: a promise is broken; with the event at which it was.
    """
    opening, lines = read_story(path)
    scheduler, facts = opening.scheduler(), Facts()
    for number, line in enumerate(lines, 1):
        if isinstance(line, Step):
            commands, error = heard(scheduler, line.event)
            assert error is None, f"event {number}: {error}"
            wrong = _broken(facts, line.event, commands)
            assert wrong is None, f"event {number}: {wrong}"
            held = len(facts.rented) - len(set(facts.released) & set(facts.rented))
            assert held <= opening.terms.leases_max, f"event {number}: {held} leases"
    return facts


def _broken(facts: Facts, event: Event, commands: Iterable[Command]) -> str | None:
    """Take commands into ``facts``; which promise they break."""
    if isinstance(event, Rented):
        facts.came_up.add(event.lease.id)
    for command in commands:
        match command:
            case Rent(lease_id=lease_id):
                wrong = _once(facts.rented, lease_id, "rented")
            case Release(lease_id):
                wrong = _once(facts.released, lease_id, "released")
            case GiveUp(job_id):
                wrong = _once(facts.given_up, job_id, "given up")
            case Submit(lease_id, _, attempt_id):
                wrong = _once(facts.attempts, attempt_id, "handed out")
                if lease_id not in facts.came_up or lease_id in facts.released:
                    wrong = f"{attempt_id} is for {lease_id}, which nobody has"
            case _:
                wrong = None
        if wrong is not None:
            return wrong
    return None


def _once(told: list[T], one: T, what: str) -> str | None:
    if one in told:
        return f"{one} is {what} twice"
    told.append(one)
    return None
