"""A lease as a task run: it lasts as long as the lease, and has a log of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from nightkiln.core.model import Lease

LINES_MAX = 200  # of one lease's log; each is a row in Prefect's database
Log: TypeAlias = logging.Logger | logging.LoggerAdapter[Any]

ENDS: Mapping[str, str] = {  # events that end a lease, and the state that its task run ends in
    "lease_released": "Released",
    "lease_called_off": "CalledOff",
    "lease_lost": "Lost",
    "lease_not_released": "NotReleased",
}
UNSEEN = "EndNotSeen"
UNSEEN_SAYS = (
    "the run broke off and saw no end of it; if it is rented it may still be billed: "
    "nightkiln leases says so, and reap gives it back"
)
_BAD = frozenset({"Lost", "NotReleased", UNSEEN})


@dataclass(slots=True)
class LeaseWatch:
    """What a lease's task run waits for, and what it will say."""

    name: str
    lease: Lease
    over: asyncio.Event = field(default_factory=asyncio.Event)
    how: str = UNSEEN  # until an event tells of its end: a run that breaks off gives nothing back
    end: Mapping[str, Any] = field(default_factory=dict)  # fields of the event that ended it
    doing: str = ""  # as it was told last
    _log: Log | None = None  # once its task run has begun
    _early: list[tuple[int, str]] = field(default_factory=list)
    _lines: int = 0

    def say(self, level: int, line: str) -> None:
        """A line of its own log; of more than ``LINES_MAX`` the rest is dropped."""
        self._lines += 1
        if self._lines > LINES_MAX:
            return
        if self._log is None:
            self._early.append((level, line))
        else:
            self._log.log(level, line)

    def begin(self, log: Log) -> None:
        """Its task run is there."""
        self._log = log
        for level, line in self._early:
            log.log(level, line)
        self._early.clear()

    def finish(self, event: str, fields: Mapping[str, Any]) -> None:
        """It has ended; the first word about that counts."""
        if not self.over.is_set():
            self.how, self.end = ENDS[event], fields
            self.over.set()


def _without_empty_trace(record: logging.LogRecord) -> bool:
    """Prefect logs a failed state as an error with a traceback, and there is none."""
    if record.exc_info == (None, None, None):
        record.exc_info = None
    return True


@task(name="lease", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False, retries=0)
async def lease_run(name: str, watch: LeaseWatch) -> State[dict[str, int]]:
    """Last as long as the lease, so that the timeline of the flow run shows the fleet."""
    del name  # it names the task run
    log = get_run_logger()
    if isinstance(log, logging.LoggerAdapter):
        log.logger.addFilter(_without_empty_trace)  # a second time changes nothing
    watch.begin(log)
    await watch.over.wait()
    return end_of(watch)


def end_of(watch: LeaseWatch) -> State[dict[str, int]]:
    """What its task run ends as; one that is lost is red in the timeline, and fails no flow."""
    if watch.how == UNSEEN:
        return Failed(name=UNSEEN, message=UNSEEN_SAYS)
    told = {key: int(watch.end.get(key, 0)) for key in ("jobs_done", "attempts_failed")}
    said = f"{told['jobs_done']} jobs done, {told['attempts_failed']} attempts failed"
    why = watch.end.get("error", watch.end.get("reason"))
    said = f"{said}: {why}" if why else said
    ends = Failed if watch.how in _BAD else Completed
    return ends(name=watch.how, message=said, data=told)
