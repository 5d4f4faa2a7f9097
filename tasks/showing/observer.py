"""Shows a batch in Prefect: one task run per lease, a few artifacts, a sentence per event.

Prefect gets no task run per image, for its server records some fifteen a second and drops the rest.
Nothing here waits for the server, and Prefect's database is not the truth: the store is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.context import FlowRunContext

from nightkiln.core.model import Lease
from nightkiln.observers.sentences import counts, sentence
from nightkiln.ports.observer import Progress
from tasks.event_table import EVENTS, OF_A_SHARE
from tasks.events import emitted
from tasks.showing.fleet import fleet_line, fleet_page
from tasks.showing.leases import ENDS, LeaseWatch, Log, lease_run
from tasks.showing.names import lease_name
from tasks.showing.quote_page import quote_line, quote_page
from tasks.showing.writer import CLOSE_S_MAX, HURRY_S_MAX, Page, Writer

FLEET_EVERY_S = 10.0
LEASES_SHOWN_MAX = 980  # with a run's other task runs fewer than 1,000, which its graph can draw
LINES_MAX = 1000  # of the flow run's log; each is a row in Prefect's database
TELL_EVERY = 0.1  # of the batch: how often its log says how far it is
COUNT_S_MAX = 10.0  # to ask what an earlier try of this flow run has shown
PROGRESS_KEY, FLEET_KEY, QUOTE_KEY = "nightkiln-progress", "nightkiln-fleet", "nightkiln-quote"

_OF_LEASES = frozenset({*ENDS, "lease_ready", "attempt_failed"})  # told in the lease's own log
_WARNINGS = frozenset(
    {
        "attempt_failed",
        "job_failed",
        "lease_lost",
        "lease_not_released",
        "provider_failed",
        "stopping",
        "warning",
    }
)
_BOTH = frozenset({"lease_lost", "lease_not_released"})  # ... and in the flow run's
_log = logging.getLogger(__name__)


class PrefectObserver:
    """Wants to be entered inside a flow run, around the batch; used by that run only.

    ``is_hurried``: whether the run was told to end by then, so that nobody waits for it for long.
    ``leases_max``: so many are drawn, over all tries of the flow run.
    ``is_share``: the batch is a share of a night, which sends the events of a night itself.
    """

    def __init__(
        self,
        logger: Log,
        *,
        is_hurried: Callable[[], bool] = lambda: False,
        leases_max: int = LEASES_SHOWN_MAX,
        is_share: bool = False,
    ) -> None:
        self._say, self._is_hurried, self._is_share = logger, is_hurried, is_share
        self._lines_left = LINES_MAX
        self._room = leases_max
        self._batch = ""
        self._count = 0
        self._names: dict[str, str] = {}
        self._watches: dict[str, LeaseWatch] = {}
        self._runs: set[asyncio.Task[Any]] = set()
        self._told_share = 0.0
        self._writer = Writer()

    async def __aenter__(self) -> Self:
        self._room -= await _shown_before()
        await self._writer.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Tell the server what it does not know yet; give up on it after a while."""
        patience_s = HURRY_S_MAX if self._is_hurried() else CLOSE_S_MAX
        self._writer.patience_s = patience_s
        for watch in self._watches.values():
            watch.over.set()
        ending = [asyncio.create_task(self._writer.__aexit__(kind, error, trace)), *self._runs]
        _, late = await asyncio.wait(ending, timeout=patience_s + 1)
        for one in late:
            one.cancel()
        if late:
            await asyncio.wait(late)

    @asynccontextmanager
    async def lease(self, lease: Lease) -> AsyncIterator[None]:
        self._count += 1
        name = self._names[lease.id] = lease_name(lease, self._count)
        if self._room <= 0:
            if self._room == 0:
                self._tell(logging.WARNING, "so many leases: those to come are not drawn")
            self._room -= 1
            yield
            return
        self._room -= 1
        watch = self._watches[lease.id] = LeaseWatch(name, lease)
        watch.say(logging.INFO, f"rented: {lease.host} ({lease.id})")
        # A lease that is lost is the state of its task run, so the state is asked for and no error.
        run: Any = lease_run  # Prefect's types forget that a state of an async task is awaited
        living = run(name, watch, return_state=True)
        shown = asyncio.create_task(_quietly(living, "a lease's task run"), name=f"show {lease.id}")
        self._runs.add(shown)
        yield  # its end is told as an event, when it is released and its counts are final

    async def event(self, name: str, fields: Mapping[str, Any]) -> None:
        self._announce(name, fields)
        watch = self._watches.get(str(fields.get("lease_id")))
        said = sentence(name, fields)
        level = logging.WARNING if name in _WARNINGS else logging.INFO
        if said is not None and watch is not None and name in _OF_LEASES:
            watch.say(level, said)
        if said is not None and (watch is None or name not in _OF_LEASES or name in _BOTH):
            self._tell(level, said)
        if watch is not None and name in ENDS:
            watch.finish(name, fields)

    async def progress(self, progress: Progress) -> None:
        percent = round(100 * (progress.total - progress.left) / max(1, progress.total), 1)
        said = f"{counts(progress)}; {fleet_line(progress)}"
        # A card of the UI shows some 30 letters of a description: what counts comes first.
        self._writer.put(PROGRESS_KEY, Page("progress", percent, f"{said}; {progress.batch}"))
        page = fleet_page(progress, self._names)
        self._writer.put(FLEET_KEY, Page("markdown", page, fleet_line(progress), FLEET_EVERY_S))
        for worker in progress.workers:
            watch = self._watches.get(worker.lease_id)
            if watch is not None and worker.doing not in {"", watch.doing}:
                watch.doing = worker.doing
                watch.say(logging.INFO, worker.doing)
        share = percent / 100
        if share - self._told_share >= TELL_EVERY:
            self._told_share = share
            self._tell(logging.INFO, f"{progress.batch}: {said}")

    def _announce(self, name: str, fields: Mapping[str, Any]) -> None:
        """What automations can hang on."""
        match name:
            case "planned":
                self._batch = str(fields["batch"])
                self._emit("nightkiln.batch.started", fields)
            case "quoted":
                shown = Page("markdown", quote_page(fields), quote_line(fields))
                self._writer.put(QUOTE_KEY, shown)
                self._emit("nightkiln.batch.quoted", fields)
            case "lease_lost":
                self._emit("nightkiln.lease.lost", self._lost(fields))
            case "stopping" if fields.get("is_budget"):
                self._emit("nightkiln.budget.reached", {"why": fields["reason"]})
            case _:
                pass

    def _lost(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        watch = self._watches.get(str(fields["lease_id"]))
        facts = {key: fields.get(key) for key in ("lease_id", "host", "jobs_done")}
        if watch is not None:
            facts |= {"provider": watch.lease.provider, "gpu": watch.lease.offer.gpu}
        return {**facts, "why": fields.get("error")}

    def _emit(self, name: str, fields: Mapping[str, Any]) -> None:
        if self._is_share and name not in OF_A_SHARE:
            return
        said = {key: fields.get(key) for key in EVENTS[name]}
        emitted(name, batch=self._batch, **said)

    def _tell(self, level: int, line: str) -> None:
        if self._lines_left == 0:
            return
        self._lines_left -= 1
        self._say.log(level, line)
        if self._lines_left == 0:
            self._say.warning("more than %d lines; the receipt and the store say more", LINES_MAX)


async def _shown_before() -> int:
    """Task runs that this flow run has already, from an earlier try; all, if nobody says."""
    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    if run is None or run.run_count <= 1:
        return 0
    wanted = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
    body = {"flow_runs": wanted.model_dump(mode="json", exclude_unset=True)}
    try:
        async with asyncio.timeout(COUNT_S_MAX), get_client() as client:
            return int((await client.request("POST", "/task_runs/count", json=body)).json())
    except Exception:  # noqa: BLE001 - whatever a server and its client can raise
        return LEASES_SHOWN_MAX


async def _quietly(work: Coroutine[Any, Any, Any], what: str) -> None:
    """Prefect's troubles are no troubles of the batch."""
    try:
        await work
    except Exception:  # noqa: BLE001 - anything that a server or a client can raise
        _log.debug("Prefect could not be told of %s", what, exc_info=True)
