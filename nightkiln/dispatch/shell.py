"""What every part of the shell works with: the work, the event queue, jobs in hand, the people."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from nightkiln.core.errors import StoreUnusable
from nightkiln.core.events import Blame, Event
from nightkiln.core.model import (
    Attempt,
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
)
from nightkiln.core.story import Step
from nightkiln.core.terms import Load
from nightkiln.dispatch.booking import Booking
from nightkiln.dispatch.controller import Controller
from nightkiln.dispatch.giving_back import Releases
from nightkiln.dispatch.landing import Fetched, Trust
from nightkiln.dispatch.sleeping import SLEEP_S_MIN, asleep_s
from nightkiln.dispatch.tally import STARTING, Tally
from nightkiln.ports.journal import Journal
from nightkiln.ports.observer import Observer
from nightkiln.ports.provider import Provider, Telling
from nightkiln.ports.worker import Rendered, Worker

_log = logging.getLogger(__name__)

TICK_S = 1.0
RELEASE_S_MAX = 60.0  # for which the release of one lease is tried again
OBSERVER_S_MAX = 5.0  # an observer that takes longer misses what it is told


class JobSource(Protocol):
    """The jobs still to do, in the order of the catalog; blocking."""

    def take(self, count_max: int) -> tuple[Sequence[Job], bool]:
        """The next jobs, and whether they are the last."""


class Sink(Protocol):
    """Where settled jobs go to be committed."""

    async def add(self, settled: Settled) -> None:
        """Take one; waits while the store is slower than the fleet."""


class Harbour(Protocol):
    """Where outputs come home to: ``Landing``, or in a rehearsal nothing at all."""

    async def submit(
        self, worker: Worker, job: BoundJob, attempt_id: AttemptId, trust: Trust
    ) -> Ticket:
        """Hand a job over; some workers are told where to bring what they make."""

    async def fetch(
        self, job: BoundJob, rendered: Rendered, attempt_id: AttemptId, trust: Trust
    ) -> Sequence[Fetched]:
        """Download and verify every output, or none."""

    async def keep(self, job_id: JobId, fetched: Sequence[Fetched]) -> tuple[Output, ...]:
        """Give verified files their place; durable when this returns."""

    def discard(self, fetched: Sequence[Fetched]) -> None:
        """Drop files that will not be kept."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a run works on and with."""

    need: Need
    source: JobSource
    bind: Callable[[Job], BoundJob]
    providers: Mapping[str, Provider]
    landing: Harbour
    journal: Journal
    journal_fields: Callable[[Settled], Mapping[str, Any]]
    sink: Sink
    observer: Observer
    lease_log: Callable[[LeaseEnd], Awaitable[None]]
    load: Load = field(default_factory=Load)
    blame: Callable[[Blame], Coroutine[None, None, None]] | None = None  # remembers bad machines
    story: Callable[[Step], None] | None = None  # hears everything; neither waits nor fails
    controller: Controller | None = None  # whose capacity is measured; None: it is no limit
    clock: Callable[[], float] = time.time
    asleep_s: Callable[[], float] = asleep_s  # seconds that the loop's clock does not count
    tick_s: float = TICK_S
    release_s_max: float = RELEASE_S_MAX
    book: Booking | None = None  # what bills is written down there; None: only in tests


@dataclass(slots=True)
class InHand:
    """A job between the catalog and its end."""

    job: Job
    queued_s: float
    attempts: list[Attempt] = field(default_factory=list)
    is_landing: bool = False  # a result is on its way into the store: any other comes too late


@dataclass(slots=True)
class Shell:
    """Shared by the loop, the leases and the renders of one run."""

    work: Work
    tally: Tally
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    in_hand: dict[JobId, InHand] = field(default_factory=dict)
    _releases: dict[str, Releases] = field(default_factory=dict)
    _slept_before_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._slept_before_s = self.work.asleep_s()

    def time_s(self) -> float:
        """The clock of the scheduler's events: machines are paid for while this computer sleeps."""
        slept_s = self.work.asleep_s() - self._slept_before_s
        now_s = asyncio.get_running_loop().time()
        return now_s + slept_s if slept_s >= SLEEP_S_MIN else now_s

    def releases(self, provider: Provider) -> Releases:
        """The way back to a provider, the same for all its leases."""
        return self._releases.setdefault(provider.name, Releases(provider))

    def book_of(self, provider: Provider) -> Booking | None:
        """Where its leases are written down; None: they cost nothing."""
        return self.work.book if provider.bills else None

    async def write_down(self, writing: Callable[..., None], *args: Any, **fields: Any) -> None:
        """Change the book where a failure only costs whoever comes next a second look."""
        try:
            await asyncio.to_thread(writing, *args, **fields)
        except StoreUnusable as error:
            await self.warn(f"the book of leases is not up to date: {error}")

    async def warn(self, message: str) -> None:
        """Tell people what they should know."""
        await self.tell("warning", {"message": message})

    def now_s(self) -> float:
        """Epoch seconds."""
        return self.work.clock()

    async def settle(self, kind: str, settled: Settled) -> None:
        """Journal a job's end, then hand it over for commit; after that it is out of our hands."""
        await self.work.journal.append(kind, self.work.journal_fields(settled))
        await self.work.sink.add(settled)
        if self.work.controller is not None and settled.status == "done":
            self.work.controller.kept(settled)
        del self.in_hand[settled.job.id]

    async def tell(self, name: str, fields: Mapping[str, Any]) -> None:
        """Tell the observer what happened."""
        await tell(self.work.observer, name, fields)

    async def tell_progress(self) -> None:
        """Show the observer where the run stands."""
        self._ask_what_they_do()
        async with _bounded("progress"):
            await self.work.observer.progress(self.tally.progress(self.now_s()))

    def _ask_what_they_do(self) -> None:
        """Leases that are coming up: how far they are, where their provider knows."""
        for lease_id, worker in list(self.tally.workers.items()):
            provider = self.work.providers[worker.provider]
            if worker.state == STARTING and isinstance(provider, Telling):
                doing = provider.doing(lease_id)
                self.tally.workers[lease_id] = replace(worker, doing=doing)

    @asynccontextmanager
    async def watched(self, lease: Lease) -> AsyncIterator[None]:
        """The observer's context around the life of a lease."""
        async with contextlib.AsyncExitStack() as stack:
            async with _bounded("lease"):
                watcher = self.work.observer.lease(lease)
                await watcher.__aenter__()
                stack.push_async_callback(_leave, watcher)
            yield


async def tell(observer: Observer, name: str, fields: Mapping[str, Any]) -> None:
    """Tell an observer, who can neither block nor fail a run."""
    async with _bounded(f"event {name}"):
        await observer.event(name, fields)


async def _leave(watcher: contextlib.AbstractAsyncContextManager[None]) -> None:
    async with _bounded("lease"):
        await watcher.__aexit__(None, None, None)


@asynccontextmanager
async def _bounded(what: str) -> AsyncIterator[None]:
    """Whatever an observer does in here, the batch goes on."""
    try:
        async with asyncio.timeout(OBSERVER_S_MAX):
            yield
    except Exception:  # noqa: BLE001 - an observer is a stranger's code and only looks on
        _log.debug("an observer failed at %s", what, exc_info=True)
