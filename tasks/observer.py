"""Shows a run in Prefect: one task run per lease, one progress bar, events as log lines.

None per image: Prefect's server records some fifteen task runs a second and drops what is more, so
its database is for looking at, never a ledger. Everything here may fail or hang without harm: the
shell gives an observer five seconds and goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from logging import Logger, LoggerAdapter
from typing import Any
from uuid import UUID

from prefect import task
from prefect.artifacts import acreate_progress_artifact, aupdate_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from nightkiln.core.model import Lease
from nightkiln.observers.sentences import counts, sentence
from nightkiln.ports.observer import Progress

PROGRESS_EVERY_S = 5.0  # each update is a request to the server
_WARNINGS = frozenset({"job_failed", "lease_lost", "provider_failed", "stopping", "warning"})


@dataclass(slots=True)
class LeaseWatch:
    """What a lease's task run waits for, and what it will say."""

    over: asyncio.Event = field(default_factory=asyncio.Event)
    lost: str | None = None


@task(task_run_name="{provider} {host}", cache_policy=NO_CACHE, persist_result=False, retries=0)
async def lease_run(provider: str, host: str, watch: LeaseWatch) -> State[None]:
    """Last as long as the lease, so that the run's timeline shows the fleet."""
    del provider, host  # they name the task run
    await watch.over.wait()
    if watch.lost is not None:
        return Failed(message=f"lost: {watch.lost}")
    return Completed(message="released")


async def _show(lease: Lease, watch: LeaseWatch) -> None:
    """Run the task to its end; a lost lease is its state, not an error of the flow."""
    await lease_run(lease.provider, lease.host, watch, return_state=True)  # type: ignore[misc]


class PrefectObserver:
    """Made inside a flow run, used by that run only."""

    def __init__(
        self,
        logger: Logger | LoggerAdapter[Any],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._clock = logger, clock
        self._watches: dict[str, LeaseWatch] = {}
        self._bar: UUID | None = None
        self._told_s = float("-inf")

    @asynccontextmanager
    async def lease(self, lease: Lease) -> AsyncIterator[None]:
        watch = self._watches[lease.id] = LeaseWatch()
        shown = asyncio.create_task(_show(lease, watch), name="lease run")
        try:
            yield
        finally:
            watch.over.set()
            await shown
            del self._watches[lease.id]

    async def event(self, name: str, fields: Mapping[str, Any]) -> None:
        watch = self._watches.get(str(fields.get("lease_id")))
        if name == "lease_lost" and watch is not None:
            watch.lost = str(fields.get("error"))
        said = sentence(name, fields)
        if said is not None:
            (self._log.warning if name in _WARNINGS else self._log.info)(said)

    async def progress(self, progress: Progress) -> None:
        now_s, is_last = self._clock(), progress.left == 0
        if now_s - self._told_s < PROGRESS_EVERY_S and not is_last:
            return
        self._told_s = now_s
        percent = 100 * (progress.total - progress.left) / max(1, progress.total)
        if self._bar is None:
            self._bar = await acreate_progress_artifact(
                progress=percent, description=f"batch {progress.batch}"
            )
        else:
            await aupdate_progress_artifact(
                self._bar, progress=percent, description=counts(progress)
            )
