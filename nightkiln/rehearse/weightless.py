"""What has no weight in a run of which only the decisions count: jobs, journal, store, harbour."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightkiln.core.model import AttemptId, BoundJob, Job, JobId, Output, Settled, Ticket
from nightkiln.dispatch.landing import Fetched, Trust
from nightkiln.ports.worker import Rendered, Worker

NOWHERE = Path("/nonexistent/nightkiln-rehearsal")  # an output without content is never written


class Source:
    """Jobs without content."""

    def __init__(self, jobs: int) -> None:
        self._jobs, self._given = jobs, 0

    def take(self, count_max: int) -> tuple[Sequence[Job], bool]:
        first, self._given = self._given, min(self._given + count_max, self._jobs)
        jobs = [Job(JobId(f"job-{number}"), {}) for number in range(first, self._given)]
        return jobs, self._given == self._jobs


class Landing:
    """Looks at outputs, which tell whether they are damaged, and keeps nothing."""

    async def submit(
        self, worker: Worker, job: BoundJob, attempt_id: AttemptId, trust: Trust
    ) -> Ticket:
        del trust
        return await worker.submit(job, attempt_id)

    async def fetch(
        self, job: BoundJob, rendered: Rendered, attempt_id: AttemptId, trust: Trust
    ) -> Sequence[Fetched]:
        del job, attempt_id, trust
        for handle in rendered.outputs:
            await handle.save(NOWHERE)
        return ()

    async def keep(self, job_id: JobId, fetched: Sequence[Fetched]) -> tuple[Output, ...]:
        del job_id, fetched
        return ()

    def discard(self, fetched: Sequence[Fetched]) -> None:
        del fetched


class Journal:
    """Writes nothing down."""

    async def append(self, kind: str, fields: Mapping[str, Any]) -> None:
        del kind, fields

    async def close(self) -> None:
        pass


@dataclass(slots=True)
class Sink:
    """Counts what is settled, and keeps nothing."""

    clock: Callable[[], float]
    done: int = 0
    failed: int = 0
    last_s: float = 0.0  # when the last job was settled

    async def add(self, settled: Settled) -> None:
        self.done += settled.status == "done"
        self.failed += settled.status == "failed"
        self.last_s = self.clock()
