"""The story of a whole night: its decisions can be derived anew, and it is in nobody's way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nightkiln import cli
from nightkiln.night import Outcome
from nightkiln.observers import JsonLines
from nightkiln.settings import Settings
from nightkiln.store.store import Store
from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.samples import write_catalog
from nightkiln.testing.stories import assert_replays, assert_sound
from nightkiln.wiring import Request, chosen_catalog, run_batch


class Quiet(JsonLines):
    """Remembers what it is told instead of writing it."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Mapping[str, Any]]] = []

    async def event(self, name: str, fields: Mapping[str, Any]) -> None:
        self.events.append((name, fields))


async def night(tmp_path: Path, *workers: StandIn, jobs: int, observer: Quiet) -> Outcome:
    folder = write_catalog(tmp_path / "catalog", jobs)
    urls = tuple(worker.url for worker in workers)
    settings = Settings(store=str(tmp_path / "store"), worker_urls=urls, startup_s=5.0)
    return await run_batch(Request(chosen_catalog(folder), name="night"), settings, observer)


@pytest.mark.nights
async def test_every_decision_of_a_faulty_night_can_be_derived_anew(tmp_path: Path) -> None:
    faults = ("corrupt@2", "error@4", "die@8")
    async with StandIn(render_s=0.02) as good, StandIn(render_s=0.02, faults=faults) as bad:
        outcome = await night(tmp_path, good, bad, jobs=24, observer=Quiet())

    assert outcome.exit_code == 0
    [story] = Store.open(str(tmp_path / "store")).story_paths("night")
    assert_replays(story)
    facts = assert_sound(story)
    assert sorted(facts.rented) == sorted(facts.released)
    said = CliRunner().invoke(cli.app, ["replay", str(story)])
    assert (said.exit_code, said.stdout[:6]) == (0, "same: ")
    fields = json.loads(CliRunner().invoke(cli.app, ["replay", str(story), "--json"]).stdout)
    assert fields["is_same"] is True
    assert fields["events"] > 24


async def test_a_night_whose_story_cannot_be_written_is_whole_and_says_so(tmp_path: Path) -> None:
    Store.open(str(tmp_path / "store"), create=True)
    (tmp_path / "store" / "stories").write_text("no folder")
    told = Quiet()
    async with StandIn() as worker:
        outcome = await night(tmp_path, worker, jobs=3, observer=told)

    assert (outcome.exit_code, outcome.done) == (0, 3)
    [said] = [fields["message"] for name, fields in told.events if name == "warning"]
    assert "the story of this run is not whole" in said
