"""Shows a run in Prefect: one task run per lease, one progress bar, events as log lines.

None per image: Prefect's server records some fifteen task runs a second and drops what is more, so
its database is for looking at, never a ledger. Nothing the run waits for is done here: a lease's
task run and the bar's writer are tasks of their own, so a server that is slow or down delays no
release, and only the end of the flow waits for them, for a bounded time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from prefect import task
from prefect.artifacts import acreate_progress_artifact, aupdate_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Crashed

from nightkiln.core.model import Lease
from nightkiln.observers.sentences import counts, sentence
from nightkiln.ports.observer import Progress

PROGRESS_EVERY_S = 3.0  # each update is a request to the server
WRITE_S_MAX = 30.0  # one update; Prefect's client would try for a minute when the server is down
CLOSE_S_MAX = 15.0  # for what the server has not been told when the run is over
LEASES_SHOWN_MAX = 1000  # the graph of a run asks before it draws more than 2,000
LINES_MAX = 2000  # each is a row in Prefect's database; the store has every failure anyway
PROGRESS_KEY = "nightkiln-progress"

_LEASE_ENDS = frozenset({"lease_released", "lease_called_off", "lease_not_released", "lease_lost"})
_WARNINGS = frozenset(
    {"job_failed", "lease_lost", "lease_not_released", "provider_failed", "stopping", "warning"}
)
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class LeaseWatch:
    """What a lease's task run waits for, and what it will say."""

    over: asyncio.Event = field(default_factory=asyncio.Event)
    end: Mapping[str, Any] = field(default_factory=dict)  # fields of the event that ended it


@task(
    name="lease",
    task_run_name="{provider} {host}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=0,
)
async def lease_run(provider: str, host: str, watch: LeaseWatch) -> State[dict[str, int]]:
    """Last as long as the lease, so that the timeline of the flow run shows the fleet."""
    del provider, host  # they name the task run
    await watch.over.wait()
    told = {name: int(watch.end.get(name, 0)) for name in ("jobs_done", "attempts_failed")}
    said = f"{told['jobs_done']} jobs done, {told['attempts_failed']} attempts failed"
    if "error" in watch.end:  # Prefect's word for infrastructure that died; no error of the flow
        how = "not released" if "what_to_do" in watch.end else "lost"
        return Crashed(message=f"{how} after {said}: {watch.end['error']}", data=told)
    return Completed(message=said, data=told)


class PrefectObserver:
    """Wants to be entered inside a flow run, around the batch; used by that run only."""

    def __init__(self, logger: logging.Logger | logging.LoggerAdapter[Any]) -> None:
        self._say = logger
        self._lines_left = LINES_MAX
        self._watches: dict[str, LeaseWatch] = {}
        self._leases: set[asyncio.Task[Any]] = set()
        self._latest: Progress | None = None
        self._fresh, self._over = asyncio.Event(), asyncio.Event()
        self._bar: UUID | None = None
        self._writer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._writer = asyncio.create_task(self._write_always(), name="progress artifact")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Tell the server what it does not know yet; give up on it after a while."""
        assert self._writer is not None
        self._over.set()
        self._fresh.set()
        for watch in self._watches.values():
            watch.over.set()
        # A write is not cut off: the server may have made the bar already, and would make a second.
        _, late = await asyncio.wait({self._writer, *self._leases}, timeout=CLOSE_S_MAX)
        for one in late:
            one.cancel()
        if late:
            await asyncio.wait(late)

    @asynccontextmanager
    async def lease(self, lease: Lease) -> AsyncIterator[None]:
        if len(self._watches) >= LEASES_SHOWN_MAX:
            yield
            return
        watch = self._watches[lease.id] = LeaseWatch()
        # A lease that is lost is the state of its task run, so the state is asked for and no error.
        run: Any = lease_run  # Prefect's types forget that a state of an async task is awaited
        living = run(lease.provider, lease.host, watch, return_state=True)
        shown = asyncio.create_task(_quietly(living, "a lease's task run"), name=f"show {lease.id}")
        self._leases.add(shown)
        yield  # its end is told as an event, when it is released and its counts are final

    async def event(self, name: str, fields: Mapping[str, Any]) -> None:
        watch = self._watches.get(str(fields.get("lease_id")))
        if name in _LEASE_ENDS and watch is not None:
            watch.end = fields
            watch.over.set()
        said = sentence(name, fields)
        if said is None or self._lines_left == 0:
            return
        self._lines_left -= 1
        self._say.log(logging.WARNING if name in _WARNINGS else logging.INFO, said)
        if self._lines_left == 0:
            self._say.warning(
                "more than %d events; from here on only the store has them", LINES_MAX
            )

    async def progress(self, progress: Progress) -> None:
        self._latest = progress
        self._fresh.set()

    async def _write_always(self) -> None:
        """The bar's only writer: updates that overtake each other would leave it short of 100 %."""
        while self._fresh.is_set() or not self._over.is_set():
            await self._fresh.wait()
            self._fresh.clear()
            if self._latest is not None:
                await _quietly(self._put(self._latest), "the progress artifact")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), PROGRESS_EVERY_S)

    async def _put(self, now: Progress) -> None:
        percent = round(100 * (now.total - now.left) / max(1, now.total), 1)
        said = f"{now.batch}: {counts(now)}"
        async with asyncio.timeout(WRITE_S_MAX):
            if self._bar is None:
                self._bar = await acreate_progress_artifact(
                    progress=percent, key=PROGRESS_KEY, description=said
                )
            else:
                await aupdate_progress_artifact(self._bar, progress=percent, description=said)


async def _quietly(work: Coroutine[Any, Any, Any], what: str) -> None:
    """Prefect's troubles are no troubles of the batch."""
    try:
        await work
    except Exception:  # noqa: BLE001 - anything that a server or a client can raise
        _log.debug("Prefect could not be told of %s", what, exc_info=True)
