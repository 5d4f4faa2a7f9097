"""Results that an earlier run of this batch has paid for, fetched before anything is paid again.

A run that was killed leaves tickets in its journal. Where a provider keeps what a ticket names, the
result is fetched, verified and committed as if the dead run had lived to do it; what cannot be had
is cancelled and left for this run to render.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nightkiln.catalog import Catalog
from nightkiln.core.errors import ProviderError, RenderFailed, WorkerLost
from nightkiln.core.model import (
    Attempt,
    AttemptId,
    BatchId,
    Job,
    JobId,
    LeaseId,
    Settled,
    Ticket,
)
from nightkiln.dispatch.landing import Landing, Trust
from nightkiln.journal import read_journal
from nightkiln.planner import Plan
from nightkiln.ports.provider import Provider, Recalls
from nightkiln.ports.worker import Place, Rendered
from nightkiln.store.adopt import SETTLED_KINDS, journals_of
from nightkiln.store.commit import Committer
from nightkiln.store.settled_json import job_from_json
from nightkiln.store.store import Store

RECALL_S_MAX = 300.0  # for a call that still runs: as long as a container takes to start and render
OVER_S_MAX = 30.0  # for a call where nothing may be spent any more: to say that it is over
AT_ONCE_MAX = 16


@dataclass(frozen=True, slots=True)
class Left:
    """A ticket whose result nobody has seen."""

    ticket: Ticket
    provider: str
    ref: str
    lease_id: LeaseId
    attempt_id: AttemptId
    job: Job
    started_s: float


def tickets_left(store: Store, plan: Plan, batch: BatchId) -> list[Left]:
    """Tickets of earlier runs, without an end and still asked for, as submitted. Blocking."""
    found: dict[Ticket, Left] = {}
    settled: set[str] = set()
    for path in journals_of(store, batch.batch, batch.epoch):
        for left, job_id in _lines(path):
            if left is not None:
                found[left.ticket] = left
            if job_id is not None:
                settled.add(job_id)
    open_ = [left for left in found.values() if left.job.id not in settled]
    wanted = plan.wanted([left.job.id for left in open_])
    return [left for left in open_ if left.job.id in wanted]


def _lines(path: Path) -> Iterator[tuple[Left | None, str | None]]:
    """A ticket that can be recalled, or the job that was settled, of each line that has one."""
    for entry in read_journal(path):
        try:
            if entry["kind"] in SETTLED_KINDS:
                yield None, str(entry["settled"]["job"]["id"])
            elif entry["kind"] == "ticket" and "job" in entry:
                yield _left(entry), None
        except (KeyError, TypeError, ValueError, AttributeError):
            continue  # what it would have told is done again


def _left(entry: Mapping[str, Any]) -> Left:
    """Raises TypeError, KeyError or ValueError where a line is none of ours."""
    return Left(
        ticket=Ticket(str(entry["ticket"])),
        provider=str(entry["provider"]),
        ref=str(entry["ref"]),
        lease_id=LeaseId(str(entry["lease_id"])),
        attempt_id=AttemptId(str(entry["attempt_id"])),
        job=job_from_json(entry["job"]),
        started_s=float(entry["started_s"]),
    )


@dataclass(frozen=True, slots=True)
class Recalling:
    """Fetches what tickets name, and gives it its place in the store.

    ``past``: providers that this run does not rent from. What has been made there is fetched all
    the same; what is not over is cancelled, so that it costs nothing more.
    """

    providers: Mapping[str, Provider]
    landing: Landing
    catalog: Catalog
    clock: Callable[[], float]
    warn: Callable[[str], Awaitable[None]]
    past: Mapping[str, Provider] = field(default_factory=dict)
    within_s: float = RECALL_S_MAX
    over_s: float = OVER_S_MAX

    async def commit(self, plan: Plan, batch: BatchId, committer: Committer) -> int:
        """Settle what earlier runs have paid for; how many jobs that is."""
        await asyncio.to_thread(plan.refresh)
        left = await asyncio.to_thread(tickets_left, plan.store, plan, batch)
        found = await self.settled(left)
        jobs = await committer.add_all(iter(found))
        await asyncio.to_thread(plan.refresh)
        return jobs

    async def settled(self, left: Collection[Left]) -> Sequence[Settled]:
        """Jobs that are done by that; each once.

        A service that does not say what became of a ticket holds up no night: its jobs are
        rendered, and what is written down of its calls is there for the reaper.
        """
        found: dict[JobId, Settled] = {}
        for name, provider in {**self.past, **self.providers}.items():
            mine = [each for each in left if each.provider == name]
            if not mine or not isinstance(provider, Recalls):
                continue
            try:
                async with provider:
                    within_s = self.within_s if name in self.providers else self.over_s
                    ends = await self._each(mine, provider, within_s)
            except ProviderError as error:
                what = f"{len(mine)} jobs of the run before may be paid for, and are rendered again"
                await self.warn(f"{what}: {error}")
                continue
            found |= {end.job.id: end for end in ends if end is not None}
        return list(found.values())

    async def _each(
        self, left: Sequence[Left], provider: Recalls, within_s: float
    ) -> list[Settled | None]:
        turn = asyncio.Semaphore(AT_ONCE_MAX)

        async def one(each: Left) -> Settled | None:
            async with turn:
                return await self._one(each, provider, within_s)

        ends = await asyncio.gather(*map(one, left), return_exceptions=True)
        for end in ends:  # only now: each of them is over, one way or the other
            if isinstance(end, BaseException):
                raise end
        return [end for end in ends if not isinstance(end, BaseException)]

    async def _one(self, left: Left, provider: Recalls, within_s: float) -> Settled | None:
        rendered = await provider.recall(left.ticket, within_s=within_s)
        if rendered is None:
            return None
        try:
            fetched = await self.landing.fetch(
                self.catalog.template.bind(left.job), rendered, left.attempt_id, Trust()
            )
        except (RenderFailed, WorkerLost):
            return None  # it is no result, so the job is rendered
        outputs = await self.landing.keep(left.job.id, fetched)
        attempt = self._attempt(left, rendered)
        return Settled(
            job=left.job,
            status="done",
            outputs=outputs,
            attempts=(attempt,),
            queued_s=left.started_s,
            finished_s=attempt.finished_s,
        )

    def _attempt(self, left: Left, rendered: Rendered) -> Attempt:
        place = rendered.place if rendered.place is not None else Place(left.ref, "unknown")
        return Attempt(
            id=left.attempt_id,
            lease_id=left.lease_id,
            provider=left.provider,
            host=place.host,
            gpu=place.gpu,
            started_s=left.started_s,
            finished_s=self.clock(),
            gpu_s=rendered.timings.gpu_s,
            status="done",
        )
