"""``nightkiln why`` and ``replay``, asked about a night that was written down by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from nightkiln import cli
from nightkiln.core.errors import BadInput
from nightkiln.core.story import Opening
from nightkiln.store.claim import acquire
from nightkiln.store.store import Store
from nightkiln.story import StoryFile
from nightkiln.testing import told
from nightkiln.testing.settled import BATCH

HEADLINE = (
    "run 1 of night, 2027-01-15 08:00:00 UTC: 3 jobs, by 2027-01-15 09:00, for at most 4.00 USD; "
    "2 results, 1 given up, 0.03 USD"
)
LOST = "lost with its machine, which says nothing about the job"


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store with one story in it, and a batch that left none."""
    opened = Store.open(str(tmp_path / "store"), create=True)
    for batch in ("night", "morning"):
        acquire(opened.blobs, batch, now_s=told.BEGAN_S)
    write(opened.story_path(BATCH), told.OPENING)
    return str(opened.root)


def write(path: Path, opening: Opening) -> None:
    story = StoryFile(path, opening)
    for step in told.STEPS:
        story.tell(step)
    assert story.close() is None


def asked(store: str, *arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["why", *arguments, "--store", store])


def problem(result: Result) -> str:
    assert isinstance(result.exception, BadInput)
    return str(result.exception)


def test_a_batch_is_told_machine_by_machine(store: str) -> None:
    said = asked(store, "night").stdout.splitlines()

    assert said == [
        HEADLINE,
        "  08:02:10 stop asked for: stopped by SIGTERM",
        "  08:02:10 stop: stopped by SIGTERM",
        "  cloud failed once; the last: HTTP 503",
        "",
        "night-1-lease-000: cloud host-1, RTX 4090, interruptible, 0.400 USD an hour",
        "  08:00:00 rented: 0.00055 USD a job; 2 jobs would be late without it",
        "  08:01:30 up after 90 s",
        "  08:02:10 released: no work left",
        "  08:02:20 gone: 2 jobs done, 1 failed tries, 0.0200 USD",
        "  extended once, while there was work and money for it",
        "",
        "night-1-lease-001: cloud host-2, RTX 3090, on_demand, 0.200 USD an hour",
        "  08:00:00 rented: 0.00060 USD a job; 1 jobs would be late without it",
        "  08:01:30 up after 90 s",
        "  08:02:10 lost (lost): no answer for 60 s",
        "  08:02:10 not to be rented again for 1 days: lost",
        "  08:02:10 released: no answer for 60 s",
        "  08:02:10 gone: 0 jobs done, 0 failed tries, 0.0100 USD",
        "",
        "jobs with a history: 1 done after more than one try, 1 given up",
        "  1 x failed (job, rejected)",
        "  1 x taken back: it takes longer than 30 s",
        "  1 x lost with its machine, which says nothing about the job",
        "  bbbbbbbbbbbb given up: no such node: Fancy",
    ]


def test_a_job_is_told_try_by_try(store: str) -> None:
    said = asked(store, "night", "aaaa").stdout.splitlines()

    assert said[1:] == [
        f"job {told.RETRIED}",
        "  try 1: 08:01:30 on host-2, RTX 3090 (night-1-lease-001)",
        "    08:02:00 taken back: it takes longer than 30 s; nobody's fault",
        "  try 2: 08:02:00 on host-2, RTX 3090 (night-1-lease-001)",
        "    08:02:10 lost with its machine, which says nothing about the job (no answer for 60 s)",
        "  try 3: 08:02:10 on host-1, RTX 4090 (night-1-lease-000)",
        "    08:02:10 done and verified; the machine was busy with it for 5.0 s",
        "  done: the first verified result counts",
    ]


def test_a_job_that_was_given_up_says_whose_fault_it_was(store: str) -> None:
    said = asked(store, "night", told.POISON).stdout

    assert "failed (job, rejected): no such node: [31mFancy; that is the job's own fault" in said
    assert "given up after being tried once (job): no such node: Fancy" in said


def test_a_job_without_a_history_can_be_asked_about_too(store: str) -> None:
    assert "done and verified" in asked(store, "nig", "ccc").stdout


@pytest.mark.parametrize("name", ["001", "lease-001", "night-1-lease-001"])
def test_a_lease_is_found_by_the_end_of_its_id(store: str, name: str) -> None:
    said = asked(store, "night", name).stdout.splitlines()

    assert said[1].startswith("night-1-lease-001: cloud host-2")
    assert len(said) == 8


def test_programs_get_the_same_as_objects(store: str) -> None:
    run, *rest = map(json.loads, asked(store, "night", "--json").stdout.splitlines())
    [_, job] = map(json.loads, asked(store, "night", "bbb", "--json").stdout.splitlines())

    assert (run["kind"], run["done"], run["usd"]) == ("run", 2, "0.0300")
    assert [one["kind"] for one in rest] == ["lease", "lease", "job", "job"]
    assert rest[1]["events"][2] == {
        "at_s": told.BEGAN_S + 130,
        "what": "lost",
        "why": "no answer for 60 s",
    }
    assert (job["is_given_up"], job["fault"], len(job["attempts"])) == (True, "job", 1)


def test_every_run_of_a_batch_is_told_in_order(store: str) -> None:
    later = Store.open(store).root / "stories" / "dt=2026-01-31" / "night-000002.jsonl.gz"
    write(later, told.OPENING)

    heads = [line for line in asked(store, "night").stdout.splitlines() if line[:4] == "run "]

    assert len(heads) == 2


def test_what_nobody_knows_is_refused_and_says_what_there_is(store: str) -> None:
    assert "one of: morning, night" in problem(asked(store, "evening"))
    assert "no run of it left a story" in problem(asked(store, "morning"))
    assert "no job or lease of night" in problem(asked(store, "night", "zzz"))
    assert "several begin like this (one of: night-1-lease-000, night-1-lease-001" in problem(
        asked(store, "night", "night-1")
    )


def test_a_story_whose_commands_do_not_follow_is_shown_by_replay(store: str) -> None:
    path = str(Store.open(store).story_path(BATCH))

    said = CliRunner().invoke(cli.app, ["replay", path])
    fields = json.loads(CliRunner().invoke(cli.app, ["replay", path, "--json"]).stdout)

    assert said.exit_code == 1
    assert said.stdout.startswith('differs at event 1: {"event": "Started"')
    assert "the story says: nothing" in said.stdout
    assert '{"command": "FetchJobs"' in said.stdout
    assert (fields["is_same"], fields["difference"]["number"]) == (False, 1)
