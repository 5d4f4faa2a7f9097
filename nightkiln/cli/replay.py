"""``nightkiln replay``: play a run's story again and see whether the rules still say the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from nightkiln.cli.options import JsonOption
from nightkiln.core.story import (
    Difference,
    Opening,
    Replayed,
    Step,
    command_to_json,
    line_to_json,
    replay,
)
from nightkiln.outcome import ALL_DONE, SOME_FAILED
from nightkiln.story import read_story


def replay_stories(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Stories of runs: stories/dt=<date>/<batch>-<epoch>.jsonl.gz in a store.",
            show_default=False,
        ),
    ],
    *,
    as_json: JsonOption = False,
) -> None:
    """Derive every decision of a run anew from what it was told, and compare.

    A story holds what the scheduler started from, every event that it was told and the commands
    that followed. The same events must lead to the same commands; where they do not, the first
    difference is shown: the rules have changed since, or are not as sure of themselves as they
    should be. Nothing is rented or rendered.

    Example: nightkiln replay results/stories/dt=2026-11-21/parti-2026-11-21-000001.jsonl.gz

    Exit codes: 0 the same, 1 something differs, 2 a file is no story.
    """
    is_same = True
    for path in files:
        opening, lines = read_story(path)
        found = replay(opening, lines)
        is_same = is_same and found.difference is None
        if as_json:
            fields = {"outdated": opening.outdated, **_fields(found)}
            typer.echo(json.dumps({"file": str(path), **fields}))
        else:
            prefix = f"{path}: " if len(files) > 1 else ""
            typer.echo(prefix + "\n".join([*_sentences(found), *_outdated(opening)]))
    raise typer.Exit(ALL_DONE if is_same else SOME_FAILED)


def _sentences(found: Replayed) -> list[str]:
    if found.difference is not None:
        return _differing(found.difference)
    said = [f"same: {found.events} events, {found.commands} commands"]
    if found.cut is not None:
        said.append(f"the story ends before the run did: {found.cut}")
    return said


def _outdated(opening: Opening) -> list[str]:
    if not opening.outdated:
        return []
    return [f"the rules of then had figures that are no more: {', '.join(opening.outdated)}"]


def _differing(found: Difference) -> list[str]:
    event = json.dumps(line_to_json(Step(found.event)))
    return [
        f"differs at event {found.number}: {event}",
        *_side("the story says", found.told, found.told_error),
        *_side("the rules say now", found.derived, found.derived_error),
    ]


def _side(who: str, commands: tuple[Any, ...], error: str | None) -> list[str]:
    if error is not None:
        return [f"  {who}: it broke ({error})"]
    if not commands:
        return [f"  {who}: nothing"]
    return [f"  {who}:", *(f"    {json.dumps(command_to_json(one))}" for one in commands)]


def _fields(found: Replayed) -> dict[str, Any]:
    difference = found.difference
    fields: dict[str, Any] = {
        "is_same": difference is None,
        "events": found.events,
        "commands": found.commands,
        "cut": found.cut,
    }
    if difference is not None:
        fields["difference"] = {
            "number": difference.number,
            "story": line_to_json(Step(difference.event, difference.told)),
            "derived": [command_to_json(one) for one in difference.derived],
            "story_error": difference.told_error,
            "derived_error": difference.derived_error,
        }
    return fields
