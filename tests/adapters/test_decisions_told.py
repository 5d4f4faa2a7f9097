"""What the dispatcher has written down: every event with its commands, also the one that broke."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from nightkiln.blobs import LocalBlobs
from nightkiln.core.events import FetchJobs, Offered, Started
from nightkiln.core.model import BoundJob, Job, LeaseEnd, Need, Settled
from nightkiln.core.scheduler import Scheduler
from nightkiln.core.story import Step
from nightkiln.core.terms import Terms
from nightkiln.dispatch import Dispatcher, Landing, Tally, VerifyRules, Work
from nightkiln.journal import FileJournal
from nightkiln.observers import JsonLines


class NoJobs:
    """An empty catalog."""

    def take(self, count_max: int) -> tuple[list[Job], bool]:
        del count_max
        return [], True


class Nowhere:
    """Takes what is settled and keeps nothing."""

    async def add(self, settled: Settled) -> None:
        del settled


async def _log(end: LeaseEnd) -> None:
    del end


def work(tmp_path: Path, steps: list[Step]) -> Work:
    with (tmp_path / "lines").open("w") as lines:
        return Work(
            need=Need(),
            source=NoJobs(),
            bind=lambda job: BoundJob(job.id, {}),
            providers={},
            landing=Landing(LocalBlobs(tmp_path), tmp_path, "night", VerifyRules()),
            journal=FileJournal(tmp_path / "journal"),
            journal_fields=dataclasses.asdict,
            sink=Nowhere(),
            observer=JsonLines(lines),
            lease_log=_log,
            story=steps.append,
        )


async def test_every_event_is_told_with_the_commands_that_followed(tmp_path: Path) -> None:
    steps: list[Step] = []
    told = work(tmp_path, steps)

    await Dispatcher(told, Scheduler(Terms("night-1", 4)), Tally("night", 0)).run()
    await told.journal.close()

    assert isinstance(steps[0].event, Started)
    assert any(isinstance(command, FetchJobs) for command in steps[0].commands)


class Breaking(Scheduler):
    """Breaks on the first event, as a faulty rule would."""

    def handle(self, event: object) -> list[object]:  # type: ignore[override]
        del event
        return super().handle(Offered("nobody", ()))  # type: ignore[return-value]


async def test_the_event_that_broke_a_rule_is_told_with_what_broke(tmp_path: Path) -> None:
    steps: list[Step] = []
    told = work(tmp_path, steps)

    with pytest.raises(BaseExceptionGroup) as found:
        await Dispatcher(told, Breaking(Terms("night-1", 4)), Tally("night", 0)).run()
    await told.journal.close()

    assert found.group_contains(KeyError)
    [step] = steps
    assert isinstance(step.event, Started)
    assert step.error == "KeyError: 'nobody'"
    assert asyncio.all_tasks() == {asyncio.current_task()}
