"""Turns the scheduler's commands into tasks, and what became of them into events.

One task per command, one event per end. All state that decides anything lives in the scheduler
and is touched only here, between two awaits, so there is nothing to lock. Order is the whole
protocol of a result: verified, put under its own name, journaled, and only then told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import assert_never

from nightkiln.core.errors import ProviderError
from nightkiln.core.events import (
    AskOffers,
    Cancel,
    Command,
    FetchJobs,
    GiveUp,
    Offered,
    Queued,
    Release,
    Rent,
    Started,
    Stop,
    StopRequested,
    Submit,
    Tick,
)
from nightkiln.core.model import LeaseId, Offer
from nightkiln.core.scheduler import Scheduler
from nightkiln.dispatch.attempting import Attempting, give_up
from nightkiln.dispatch.lease_life import LeaseLife, Render
from nightkiln.dispatch.shell import InHand, Shell, Work
from nightkiln.dispatch.tally import Tally

TICK_S = 1.0


class Dispatcher:
    """Drives one run to its end. On any way out, every lease is released."""

    def __init__(self, work: Work, scheduler: Scheduler, tally: Tally) -> None:
        self._scheduler = scheduler
        self._shell = Shell(work, tally)
        self._lives: dict[LeaseId, LeaseLife] = {}
        self._group: asyncio.TaskGroup | None = None

    def stop(self, reason: str, *, is_now: bool = False) -> None:
        """Ask for an orderly end; with ``is_now`` running jobs are handed back unfinished."""
        self._shell.events.put_nowait(StopRequested(is_now, reason))

    async def run(self) -> None:
        """Work until everything is settled or the run stops."""
        self._shell.tally.started_s = self._shell.now_s()
        self._shell.events.put_nowait(Started(asyncio.get_running_loop().time()))
        async with asyncio.TaskGroup() as group:
            self._group = group
            ticking = group.create_task(self._tick(), name="tick")
            while not self._scheduler.is_finished:
                event = await self._shell.events.get()
                if isinstance(event, StopRequested):
                    # Whoever asks hears at once: an orderly end may take a render's time.
                    self._start(self._shell.tell("stopping", {"reason": _heard(event)}), "tell")
                for command in self._scheduler.handle(event):
                    self._carry_out(command)
                # A task that is cancelled before its first step would end without a word; the
                # queue alone does not let it take that step.
                await asyncio.sleep(0)
            ticking.cancel()
        await self._shell.tell_progress()

    def _carry_out(self, command: Command) -> None:
        match command:
            case FetchJobs(count_max):
                self._start(self._fetch_jobs(count_max), "fetch jobs")
            case AskOffers(count_max):
                self._start(self._ask_offers(count_max), "ask offers")
            case Rent(offer, lease_id):
                life = LeaseLife(lease_id, offer, self._shell.now_s())
                self._lives[lease_id] = life
                self._start(life.live(self._shell), f"lease {lease_id}")
            case Submit():
                self._submit(command)
            case Cancel(lease_id, attempt_id):
                render = self._lives[lease_id].renders.get(attempt_id)
                if render is not None:
                    render.cancel()
            case Release(lease_id, reason):
                self._lives[lease_id].ask_release(reason)
            case GiveUp(job_id, fault, error):
                self._start(give_up(self._shell, job_id, fault, error), f"give up {job_id}")
            case Stop(reason):
                self._start(self._shell.tell("stopping", {"reason": reason}), "tell")
            case _:
                assert_never(command)

    def _submit(self, command: Submit) -> None:
        life, hand = self._lives[command.lease_id], self._shell.in_hand[command.job_id]
        attempting = Attempting(self._shell, life, hand, command.attempt_id, self._shell.now_s())
        task = self._start(attempting.run(), f"render {command.attempt_id}")
        life.renders[command.attempt_id] = Render(task)
        self._shell.tally.worker(command.lease_id, running=1)

    def _start(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        assert self._group is not None
        return self._group.create_task(work, name=name)

    async def _tick(self) -> None:
        while True:
            self._shell.events.put_nowait(Tick(asyncio.get_running_loop().time()))
            await self._shell.tell_progress()
            await asyncio.sleep(TICK_S)

    async def _fetch_jobs(self, count_max: int) -> None:
        jobs, is_last = await asyncio.to_thread(self._shell.work.source.take, count_max)
        now_s = self._shell.now_s()
        for job in jobs:
            self._shell.in_hand[job.id] = InHand(job, now_s)
        self._shell.events.put_nowait(Queued(tuple(job.id for job in jobs), is_last))

    async def _ask_offers(self, count_max: int) -> None:
        work, found = self._shell.work, list[Offer]()
        for provider in work.providers.values():
            try:
                found += await provider.offers(work.need, limit=count_max)
            except ProviderError as error:
                fields = {"provider": provider.name, "error": str(error)}
                await self._shell.tell("provider_failed", fields)
        self._shell.events.put_nowait(Offered(tuple(found)))


def _heard(asked: StopRequested) -> str:
    then = "handed back" if asked.is_now else "finished first"
    return f"{asked.reason}; what is being rendered is {then}"
