"""Turns the scheduler's commands into tasks, and what became of them into events.

One task per command, one event per end. All state that decides anything lives in the scheduler
and is touched only here, between two awaits, so there is nothing to lock. Order is the whole
protocol of a result: verified, put under its own name, journaled, and only then told.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from typing import assert_never

from nightkiln.core.errors import ProviderError
from nightkiln.core.events import (
    AskOffers,
    Blame,
    BudgetSet,
    Cancel,
    Command,
    Event,
    Extend,
    Failed,
    FetchJobs,
    GiveUp,
    ListOwned,
    Offered,
    Owned,
    ProviderFacts,
    ProviderFailed,
    Queued,
    Release,
    Released,
    Rent,
    Started,
    Stop,
    StopRequested,
    Submit,
    Tick,
)
from nightkiln.core.model import Fault, LeaseId, Usd
from nightkiln.core.scheduler import Scheduler
from nightkiln.core.story import Step, told_error
from nightkiln.dispatch.attempting import Attempting, give_up
from nightkiln.dispatch.booking import owning
from nightkiln.dispatch.lease_life import LeaseLife
from nightkiln.dispatch.left_over import adopted, give_back_unseen, left_over, listed
from nightkiln.dispatch.render import Render
from nightkiln.dispatch.shell import InHand, Shell, Work
from nightkiln.dispatch.tally import Tally

LIST_AGAIN_S = 60.0  # after a release that nobody confirmed


class Dispatcher:
    """Drives one run to its end. On any way out, every lease is released."""

    def __init__(self, work: Work, scheduler: Scheduler, tally: Tally) -> None:
        self._scheduler = scheduler
        self._shell = Shell(work, tally)
        self._lives: dict[LeaseId, LeaseLife] = {}
        self._list_again_s: dict[str, float] = {}  # providers, and when
        self._group: asyncio.TaskGroup | None = None

    def stop(self, reason: str, *, is_now: bool = False) -> None:
        """Ask for an orderly end; with ``is_now`` running jobs are handed back unfinished."""
        self._shell.events.put_nowait(StopRequested(is_now, reason))

    def set_budget(self, usd: Usd) -> None:
        """From now on the run may spend this; heard with the next event."""
        self._shell.events.put_nowait(BudgetSet(usd))

    async def run(self) -> None:
        """Work until everything is settled or the run stops."""
        self._shell.tally.started_s = self._shell.now_s()
        if self._shell.work.controller is not None:
            self._shell.work.controller.start()
        async with contextlib.AsyncExitStack() as stack:
            book = self._shell.work.book
            if book is not None:
                await stack.enter_async_context(owning(book, self._shell.now_s, self._shell.warn))
            await self._work()
        await self._shell.tell_progress()

    async def _work(self) -> None:
        self._shell.events.put_nowait(Started(self._shell.time_s(), self._provider_facts()))
        async with asyncio.TaskGroup() as group:
            self._group = group
            for name, provider in self._shell.work.providers.items():
                # Nothing waits for what cannot be listed, but the book may hold leases of a run
                # that died, and what is known of those is told here.
                if provider.bills and not provider.can_list:
                    self._start(self._list_owned(name), f"list {name}")
            ticking = group.create_task(self._tick(), name="tick")
            while not self._scheduler.is_finished:
                event = await self._shell.events.get()
                if isinstance(event, Released) and not event.is_confirmed:
                    self._look_for_again(event.lease_id)
                if isinstance(event, StopRequested):
                    # Whoever asks hears at once: an orderly end may take a render's time.
                    self._start(self._shell.tell("stopping", {"reason": _heard(event)}), "tell")
                for command in self._decide(event):
                    self._carry_out(command)
                # A task that is cancelled before its first step would end without a word; the
                # queue alone does not let it take that step.
                await asyncio.sleep(0)
            ticking.cancel()

    def _decide(self, event: Event) -> Sequence[Command]:
        """Ask the scheduler, and have it written down, also how it breaks."""
        story = self._shell.work.story
        try:
            commands = self._scheduler.handle(event)
        except Exception as error:
            if story is not None:
                story(Step(event, error=told_error(error)))
            raise
        if story is not None:
            story(Step(event, tuple(commands)))
        return commands

    def _provider_facts(self) -> tuple[ProviderFacts, ...]:
        providers = self._shell.work.providers.values()
        return tuple(ProviderFacts(each.name, each.bills, each.can_list) for each in providers)

    def _carry_out(self, command: Command) -> None:
        match command:
            case FetchJobs() | AskOffers() | ListOwned():
                self._ask(command)
            case Rent() | Extend() | Release():
                self._change_lease(command)
            case Submit():
                self._submit(command)
            case Cancel(lease_id, attempt_id):
                render = self._lives[lease_id].renders.get(attempt_id)
                if render is not None:
                    render.cancel()
            case GiveUp(job_id, fault, error):
                self._start(give_up(self._shell, job_id, fault, error), f"give up {job_id}")
            case Blame(machine=machine):
                if self._shell.work.blame is not None:
                    self._start(self._shell.work.blame(command), f"blame {machine}")
            case Stop(reason):
                told = {"reason": reason, "is_budget": self._scheduler.state.is_out_of_money}
                self._start(self._shell.tell("stopping", told), "tell")
            case _:
                assert_never(command)

    def _ask(self, command: FetchJobs | AskOffers | ListOwned) -> None:
        match command:
            case FetchJobs(count_max):
                self._start(self._fetch_jobs(count_max), "fetch jobs")
            case AskOffers(provider, count_max):
                self._start(self._ask_offers(provider, count_max), f"ask {provider}")
            case ListOwned(provider):
                self._start(self._list_owned(provider), f"list {provider}")
            case _:
                assert_never(command)

    def _change_lease(self, command: Rent | Extend | Release) -> None:
        match command:
            case Rent(lease_id=lease_id):
                life = self._life_of(command)
                self._lives[lease_id] = life
                self._start(life.live(self._shell), f"lease {lease_id}")
            case Extend(lease_id, expires_at_s):
                extending = self._lives[lease_id].extend(self._shell, self._epoch_s(expires_at_s))
                self._start(extending, f"extend {lease_id}")
            case Release(lease_id, reason):
                life_here = self._lives.get(lease_id)
                if life_here is not None and not life_here.is_over:
                    life_here.ask_release(reason)
                else:
                    self._start(self._give_back(command), f"give back {lease_id}")
            case _:
                assert_never(command)

    def _look_for_again(self, lease_id: LeaseId) -> None:
        """Nobody confirmed that it ended: if it is still listed then, it is given back again."""
        provider = self._shell.work.providers[self._lives[lease_id].offer.provider]
        if provider.bills and provider.can_list:
            again_s = self._shell.now_s() + LIST_AGAIN_S
            self._list_again_s.setdefault(provider.name, again_s)

    def _epoch_s(self, time_s: float) -> float:
        return self._shell.now_s() + time_s - self._shell.time_s()

    async def _give_back(self, release: Release) -> None:
        lease_id, reason = release.lease_id, release.reason
        life = await left_over(self._shell, lease_id, self._lives.get(lease_id))
        if life is None:
            await give_back_unseen(self._shell, lease_id)
        else:
            self._lives[lease_id] = life
            life.ask_release(reason)
            await life.live(self._shell)

    def _life_of(self, rent: Rent) -> LeaseLife:
        expires_s = self._epoch_s(rent.expires_at_s)
        if rent.since_s is None:
            return LeaseLife(rent.lease_id, rent.offer, self._shell.now_s(), expires_s)
        rented_s, book = self._epoch_s(rent.since_s), self._shell.work.book
        return adopted(rent.lease_id, rent.offer, rented_s, expires_s, book)

    def _submit(self, command: Submit) -> None:
        life, hand = self._lives[command.lease_id], self._shell.in_hand.get(command.job_id)
        if hand is None:  # its result came meanwhile, and is about to be told
            settled = Failed(command.attempt_id, Fault.MARKET, "settled", "it has its result")
            self._shell.events.put_nowait(settled)
            return
        attempting = Attempting(self._shell, life, hand, command.attempt_id, self._shell.now_s())
        task = self._start(attempting.run(), f"render {command.attempt_id}")
        life.renders[command.attempt_id] = Render(task)
        self._shell.tally.worker(command.lease_id, running=1)

    def _start(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        assert self._group is not None
        return self._group.create_task(work, name=name)

    async def _tick(self) -> None:
        while True:
            controller = self._shell.work.controller
            capacity = controller.capacity() if controller is not None else None
            self._shell.events.put_nowait(Tick(self._shell.time_s(), capacity))
            for life in self._lives.values():
                if not life.is_over:
                    life.count(self._shell)
            await self._shell.tell_progress()
            now_s = self._shell.now_s()
            for name in [name for name, at_s in self._list_again_s.items() if at_s < now_s]:
                del self._list_again_s[name]
                self._start(self._list_owned(name), f"list {name}")
            await asyncio.sleep(self._shell.work.tick_s)

    async def _fetch_jobs(self, count_max: int) -> None:
        jobs, is_last = await asyncio.to_thread(self._shell.work.source.take, count_max)
        now_s = self._shell.now_s()
        for job in jobs:
            self._shell.in_hand[job.id] = InHand(job, now_s)
        self._shell.events.put_nowait(Queued(tuple(job.id for job in jobs), is_last))

    async def _ask_offers(self, name: str, count_max: int) -> None:
        work = self._shell.work
        try:
            offers = await work.providers[name].offers(work.need, limit=count_max)
        except ProviderError as error:
            await self._provider_failed(name, error)
        else:
            self._shell.events.put_nowait(Offered(name, tuple(offers)))

    async def _list_owned(self, name: str) -> None:
        begun_s = self._shell.now_s()
        try:
            found = await listed(self._shell, name)
        except ProviderError as error:
            await self._provider_failed(name, error, is_listing=True)
            for lease_id in self._unconfirmed(name):
                self._look_for_again(lease_id)
        else:
            ours = (one for one in found.lease_ids if not self._went_since(one, begun_s))
            self._shell.events.put_nowait(Owned(name, tuple(ours), found.known))
            if found.again_s is not None:
                self._list_again_s[name] = found.again_s
            for lease_id in self._unconfirmed(name) - set(found.lease_ids):
                # Its provider ended it after all, or hides it: asked once more, it will tell.
                again = Release(lease_id, "nobody had confirmed that it ended")
                self._start(self._give_back(again), f"give back {lease_id}")

    def _unconfirmed(self, provider: str) -> set[LeaseId]:
        """Leases of this run there that nobody confirmed to have ended, and nobody is ending."""
        lives = (self._lives[lease_id] for lease_id in self._shell.tally.not_released)
        return {life.id for life in lives if life.is_over and life.offer.provider == provider}

    def _went_since(self, lease_id: LeaseId, since_s: float) -> bool:
        """Whether it was given back while a list was made, which may still have it."""
        life = self._lives.get(lease_id)
        return life is not None and life.ended_s is not None and life.ended_s >= since_s

    async def _provider_failed(
        self, name: str, error: ProviderError, *, is_listing: bool = False
    ) -> None:
        self._shell.events.put_nowait(ProviderFailed(name, str(error), is_listing))
        await self._shell.tell("provider_failed", {"provider": name, "error": str(error)})


def _heard(asked: StopRequested) -> str:
    then = "handed back" if asked.is_now else "finished first"
    return f"{asked.reason}; what is being rendered is {then}"
