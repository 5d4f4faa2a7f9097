"""Machines that are lost, and runs that break, while results are on their way into the store."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nightkiln.blobs import LocalBlobs
from nightkiln.core.errors import StoreUnusable, WorkerLost
from nightkiln.core.model import (
    AttemptId,
    BoundJob,
    Job,
    JobId,
    Lease,
    LeaseEnd,
    Need,
    Output,
    Settled,
    Ticket,
    Timings,
)
from nightkiln.core.scheduler import Scheduler
from nightkiln.core.terms import Terms
from nightkiln.dispatch import Dispatcher, Landing, Tally, VerifyRules, Work
from nightkiln.dispatch.landing import Fetched
from nightkiln.journal import FileJournal, read_journal
from nightkiln.observers import JsonLines
from nightkiln.ports.worker import Rendered
from nightkiln.providers.local import LocalProvider
from nightkiln.store.adopt import settled_fields
from nightkiln.testing.settled import job
from nightkiln.testing.waiting import until

LOSING = Ticket(job(0).id)  # whoever renders this one is lost, as soon as ``is_lost`` says so


@dataclass
class Machine:
    """A worker whose jobs end at once, but for one that shows that it was restarted."""

    is_lost: asyncio.Event = field(default_factory=asyncio.Event)
    submitted: list[JobId] = field(default_factory=list)
    cancelled: list[Ticket] = field(default_factory=list)
    answers: asyncio.Event = field(default_factory=asyncio.Event)  # to those who submit
    has_link: bool = False  # that breaks with it
    error: Exception = field(default_factory=lambda: WorkerLost("restarted"))
    hanging: Ticket | None = None  # a job that never ends
    gpu: str = "tiny"
    loading_s: float = 0.0

    async def submit(self, job: BoundJob, attempt_id: AttemptId) -> Ticket:
        del attempt_id
        self.submitted.append(job.id)
        await self.answers.wait()
        return Ticket(job.id)

    async def result(self, ticket: Ticket) -> Rendered:
        if ticket == LOSING:
            await self.is_lost.wait()
            raise self.error
        if ticket == self.hanging:
            await asyncio.Event().wait()
        return Rendered((), Timings(0.0, 1.0, 1.0))

    async def cancel(self, ticket: Ticket) -> None:
        self.cancelled.append(ticket)

    async def forget(self, ticket: Ticket) -> None: ...


class OneMachine(LocalProvider):
    """Rents out a machine of this process."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(["http://machine"])
        self._machine = machine

    @asynccontextmanager
    async def connect(self, lease: Lease) -> AsyncIterator[Machine]:  # type: ignore[override]
        del lease
        yield self._machine
        if self._machine.has_link:
            raise WorkerLost("no contact")


@dataclass
class SlowSink:
    """A store that takes a job when it is let through."""

    arrived: list[JobId] = field(default_factory=list)
    settled: list[JobId] = field(default_factory=list)
    gates: dict[JobId, asyncio.Event] = field(default_factory=dict)

    async def add(self, settled: Settled) -> None:
        self.arrived.append(settled.job.id)
        await self.gate(settled.job.id).wait()
        self.settled.append(settled.job.id)

    def gate(self, job_id: JobId) -> asyncio.Event:
        return self.gates.setdefault(job_id, asyncio.Event())


class SlowLanding(Landing):
    """Keeps what came when it is let, and nobody stops the thread that does it."""

    writes: threading.Event
    is_asked = False

    async def keep(self, job_id: JobId, fetched: Sequence[Fetched]) -> tuple[Output, ...]:
        self.is_asked = True
        await asyncio.to_thread(self.writes.wait)
        return await super().keep(job_id, fetched)


class Jobs:
    """A catalog of a few jobs."""

    def __init__(self, count: int) -> None:
        self._jobs = [job(number) for number in range(count)]

    def take(self, count_max: int) -> tuple[Sequence[Job], bool]:
        taken, self._jobs = self._jobs[:count_max], self._jobs[count_max:]
        return taken, not self._jobs


@dataclass
class Run:
    """One run on one machine."""

    machine: Machine
    sink: SlowSink
    landing: SlowLanding
    dispatcher: Dispatcher
    said: io.StringIO

    def told(self, event: str) -> list[dict[str, Any]]:
        """What people were told of that."""
        lines = map(json.loads, self.said.getvalue().splitlines())
        return [line for line in lines if line["event"] == event]


@asynccontextmanager
async def running(
    folder: Path,
    count: int,
    *,
    answers: bool = True,
    has_link: bool = False,
    writes: threading.Event | None = None,
) -> AsyncIterator[Run]:
    """A run of ``count`` jobs, three at a time; it must end by itself."""

    async def log(end: LeaseEnd) -> None:
        del end

    machine, sink, said = Machine(has_link=has_link), SlowSink(), io.StringIO()
    if answers:
        machine.answers.set()
    provider = OneMachine(machine)
    landing = SlowLanding(LocalBlobs(folder), folder, "night", VerifyRules())
    landing.writes = writes or threading.Event()
    if writes is None:
        landing.writes.set()
    journal = FileJournal(folder / "journal")
    work = Work(
        need=Need(),
        source=Jobs(count),
        bind=lambda job: BoundJob(job.id, {}),
        providers={provider.name: provider},
        landing=landing,
        journal=journal,
        journal_fields=settled_fields,
        sink=sink,
        observer=JsonLines(said),
        lease_log=log,
    )
    scheduler = Scheduler(Terms("night-1", leases_max=1))
    dispatcher = Dispatcher(work, scheduler, Tally("night", count))
    try:
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            group.create_task(dispatcher.run())
            yield Run(machine, sink, landing, dispatcher, said)
    finally:
        await journal.close()


async def test_a_stop_at_once_while_a_machine_is_being_lost_ends_the_run(tmp_path: Path) -> None:
    landing = job(1).id
    async with running(tmp_path, 2) as run:
        await until(lambda: run.sink.arrived == [landing])
        run.machine.is_lost.set()
        run.dispatcher.stop("stopped", is_now=True)
        run.sink.gate(landing).set()
    assert run.sink.settled == [landing]


async def test_a_job_whose_acceptance_was_not_heard_yet_is_handed_back_too(tmp_path: Path) -> None:
    async with running(tmp_path, 1, answers=False) as run:
        await until(lambda: run.machine.submitted)
        run.dispatcher.stop("stopped", is_now=True)
        await asyncio.sleep(0)  # the order to hand back is on its way before the answer is
        run.machine.answers.set()
    assert run.machine.cancelled == [Ticket(job(0).id)]


async def test_no_job_is_handed_to_a_machine_that_is_being_lost(tmp_path: Path) -> None:
    first, second, third = job(1).id, job(2).id, job(3).id
    async with running(tmp_path, 4) as run:
        await until(lambda: set(run.sink.arrived) == {first, second})
        run.machine.is_lost.set()
        run.sink.gate(first).set()
        run.sink.gate(third).set()
        await until(lambda: first in run.sink.settled)
        run.dispatcher.stop("stopped")
        run.sink.gate(second).set()
    assert sorted(run.sink.settled) == sorted({first, second})
    assert third not in run.machine.submitted


async def test_a_machine_that_its_job_and_its_link_have_lost_is_told_once(tmp_path: Path) -> None:
    async with running(tmp_path, 1, has_link=True) as run:
        await until(lambda: run.machine.submitted)
        run.machine.is_lost.set()
        await until(lambda: run.told("lease_lost"))
        run.dispatcher.stop("stopped")
    assert [line["error"] for line in run.told("lease_lost")] == ["restarted"]


async def test_a_run_that_breaks_still_notes_the_results_that_are_on_their_way(
    tmp_path: Path,
) -> None:
    landing, hanging, writes = job(1).id, Ticket(job(2).id), threading.Event()

    async def break_down() -> None:
        async with running(tmp_path, 3, writes=writes) as run:
            machines.append(run.machine)
            run.machine.error, run.machine.hanging = StoreUnusable("no space left"), hanging
            run.sink.gate(landing).set()
            await until(lambda: run.landing.is_asked and len(run.machine.submitted) == 3)
            run.machine.is_lost.set()

    machines: list[Machine] = []
    breaking = asyncio.create_task(break_down())
    try:
        await until(lambda: machines and hanging in machines[0].cancelled)
    finally:
        writes.set()
    with pytest.raises(ExceptionGroup) as broken:
        await breaking
    assert broken.group_contains(StoreUnusable)
    noted = [entry for entry in read_journal(tmp_path / "journal") if entry["kind"] == "rendered"]
    assert [entry["settled"]["job"]["id"] for entry in noted] == [landing]
