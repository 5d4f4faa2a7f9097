"""One controller at work on a claimed batch: adopt, reuse, render, and leave a record.

Order is the protocol. What an earlier run made and can prove is committed before anything is
rented; every lease is released before the last commit; the record of the run is written last.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial

from nightkiln.accounts import Accounts
from nightkiln.allotment import Allotment, AtWork
from nightkiln.catalog import Catalog
from nightkiln.core.errors import BadInput
from nightkiln.core.model import BatchId, LeaseEnd, Trust, Usd
from nightkiln.core.scheduler import Scheduler
from nightkiln.core.story import Opening
from nightkiln.core.terms import Load
from nightkiln.decisions import Decisions
from nightkiln.disk import free_bytes
from nightkiln.dispatch import (
    Booking,
    Controller,
    Dispatcher,
    Landing,
    Tally,
    VerifyRules,
    Work,
    tell,
)
from nightkiln.gate import Ahead, Gate, admitted
from nightkiln.goals import Goals
from nightkiln.heeding import heeding, unless_stopped
from nightkiln.journal import FileJournal
from nightkiln.outcome import ALL_DONE, BAD_INPUT, SOME_FAILED, STOPPED_EARLY, Outcome
from nightkiln.planner import Counts, Plan
from nightkiln.ports.observer import Observer
from nightkiln.ports.provider import Provider
from nightkiln.recalling import Recalling
from nightkiln.run_record import close_run, open_run, run_start
from nightkiln.stop_switch import StopSwitch
from nightkiln.store.adopt import drop_journals, settled_fields
from nightkiln.store.claim import Claim
from nightkiln.store.commit import Committer
from nightkiln.store.quotes import Quoted
from nightkiln.store.records import BatchEnd, BatchStart, write_batch_end, write_lease_end
from nightkiln.store.store import Store

__all__ = [
    "ALL_DONE",
    "BAD_INPUT",
    "SOME_FAILED",
    "STOPPED_EARLY",
    "Night",
    "Outcome",
    "StopSwitch",
]

LEASES_MAX = 64


@dataclass(slots=True)
class Night:
    """Everything one run needs, chosen by somebody else."""

    catalog: Catalog
    plan: Plan
    store: Store
    claim: Claim
    batch: BatchId
    catalog_digest: str
    providers: Mapping[str, Provider]
    observer: Observer
    switch: StopSwitch
    clock: Callable[[], float]
    shard_rows: int
    release_s_max: float
    goals: Goals = field(default_factory=Goals)
    load: Load = field(default_factory=Load)  # what goes over the wire, where that is billed
    opens: Callable[[Opening], Opening] = lambda usual: usual
    gate: Gate | None = None  # before anything that bills
    quoted: Quoted | None = None
    leases_max: int = LEASES_MAX  # at once
    past: Mapping[str, Provider] = field(default_factory=dict)  # an earlier run rented there
    accounts: Accounts | None = None  # of machines that bill
    allotment: Allotment | None = None  # what may be spent changes; None: it stays
    adopted: int = 0
    reused: int = 0
    usd_billed: Usd | None = None

    async def work(self) -> Outcome:
        """Bring the batch as far as it goes."""
        started_s = self.clock()
        async with Committer(
            self.store.blobs,
            self.batch,
            still_mine=self.claim.still_mine,
            rows_max=self.shard_rows,
        ) as committer:
            start = run_start(self.batch, self.plan, self.catalog_digest, started_s)
            # First, for it says under which date the rows are that a later run has to find.
            await asyncio.to_thread(open_run, self.store, start)
            counts = await self._bring_in(committer)
            await self._pass_gate(start, counts)
            tally = Tally(self.batch.batch, counts.total, counts.done, counts.reused, counts.failed)
            decisions = await self._decisions(jobs=counts.to_do)
            landing, is_whole = self._landing(), False
            try:
                if counts.to_do or await self._holds_leases():
                    await self._render(decisions, tally, landing, committer)
                await committer.flush()
                # Everything in the journals is committed now.
                await asyncio.to_thread(drop_journals, self.store, self.batch)
                await asyncio.to_thread(self.store.refresh_views)
                is_whole = True
            finally:
                elapsed_s = self.clock() - started_s
                outcome = self._outcome(tally, decisions.scheduler, landing, elapsed_s)
                outcome = outcome.leaving_out(counts.left_out)
                outcome = outcome if is_whole else replace(outcome, exit_code=STOPPED_EARLY)
                closing = asyncio.to_thread(
                    close_run, self.store, start, outcome, self.clock(), is_whole=is_whole
                )
                await asyncio.shield(closing)
        return outcome

    # Before anything is rented.

    async def _bring_in(self, committer: Committer) -> Counts:
        """Commit what earlier runs made or paid for, and what other batches have done."""
        before = await asyncio.to_thread(self.plan.counts)
        self.adopted = await committer.add_all(self.plan.proven(before_epoch=self.batch.epoch))
        await asyncio.to_thread(self.plan.refresh)
        self.reused = await committer.add_all(self.plan.reused(now_s=self.clock()))
        told = (self.catalog, self.clock, self._warn, self.past)
        recalling = Recalling(self.providers, self._landing(), *told)
        self.adopted += (recalled := await recalling.commit(self.plan, self.batch, committer))
        if self.accounts is not None:
            await self.accounts.end_past(self.past, self._warn)
        after = await asyncio.to_thread(self.plan.counts)
        fields = {
            "batch": self.batch.batch,
            "epoch": self.batch.epoch,
            "total": after.total,
            "settled": before.settled,
            "adopted": self.adopted,
            "reused": self.reused,
            "recalled": recalled,
            "left": after.to_do,
        }
        await tell(self.observer, "planned", fields)
        return after

    async def _pass_gate(self, start: BatchStart, counts: Counts) -> None:
        """See that what costs money is quoted first, and that it may be spent."""
        left = counts.to_do
        names = frozenset(name for name, one in self.providers.items() if one.bills)
        if not left or not names:
            return
        assert self.gate is not None, "what bills is rented behind a gate"
        now_s, name = self.clock(), self.batch.batch
        ahead = Ahead(left, self.goals, self.leases_max, now_s, names, name)
        say, blobs = partial(tell, self.observer), self.store.blobs
        passing = admitted(self.gate, ahead, say, blobs=blobs, batch=self.batch, clock=self.clock)
        try:
            passage = await unless_stopped(passing, claim=self.claim, switch=self.switch)
        except BadInput:
            end = BatchEnd(self.clock(), counts.done, counts.reused, counts.failed, BAD_INPUT)
            await asyncio.to_thread(write_batch_end, blobs, start, end)
            raise
        if passage is None:  # told to stop, which the dispatcher hears before it rents anything
            return
        self.quoted = passage.quoted
        if passage.budget is not None:
            self.goals = replace(self.goals, budget=passage.budget)

    async def _booking(self, load: Load) -> Booking | None:
        return await self.accounts.booking(load) if self.accounts is not None else None

    async def _holds_leases(self) -> bool:
        """Whether an earlier run of this batch has left something that may be billed."""
        return self.accounts is not None and await self.accounts.hold_leases()

    # The work itself.

    def _landing(self) -> Landing:
        catalog, store = self.catalog, self.store
        rules = VerifyRules(catalog.decode == "all", catalog.blank == "fault")
        landing = Landing(store.blobs, store.staging, self.batch.batch, rules, warn=self._warn)
        landing.let_bring(store.uploads)
        return landing

    async def _decisions(self, *, jobs: int) -> Decisions:
        return await Decisions.begin(
            self.store,
            self.batch,
            goals=self.goals,
            jobs=jobs,
            leases_max=self.leases_max,
            providers=self.providers.values(),
            clock=self.clock,
            opens=self.opens,
            warn=self._warn,
            load=self.load,
            trust=Trust(self.catalog.need.trust),
        )

    async def _warn(self, message: str) -> None:
        await tell(self.observer, "warning", {"message": message})

    async def _render(
        self, decisions: Decisions, tally: Tally, landing: Landing, committer: Committer
    ) -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(decisions)
            path = self.store.journal_path(self.batch.batch, self.batch.epoch)
            journal = await asyncio.to_thread(FileJournal, path, disk=self.store.disk)
            stack.push_async_callback(journal.close)
            for provider in self.providers.values():
                await stack.enter_async_context(provider)
            work = Work(
                need=self.catalog.need,
                source=self.plan,
                bind=self.catalog.template.bind,
                providers=self.providers,
                landing=landing,
                journal=journal,
                journal_fields=settled_fields,
                sink=committer,
                observer=self.observer,
                lease_log=self._log_lease,
                load=decisions.load,
                story=decisions.tell,
                blame=decisions.blame,
                controller=Controller(time.process_time, partial(free_bytes, self.store.staging)),
                clock=self.clock,
                release_s_max=self.release_s_max,
                book=await self._booking(decisions.load),
            )
            dispatcher = Dispatcher(work, decisions.scheduler, tally)
            if self.allotment is not None:
                self.allotment.connect(AtWork(decisions.scheduler, tally, dispatcher, self.clock))
            await self._dispatch(dispatcher, decisions)
            if self.accounts is not None:
                self.usd_billed = await self.accounts.read_bills(self._warn)

    async def _dispatch(self, dispatcher: Dispatcher, decisions: Decisions) -> None:
        def stop(reason: str, is_now: bool) -> None:  # noqa: FBT001 - as the switch tells it
            dispatcher.stop(reason, is_now=is_now)

        self.switch.connect(stop)
        learning = decisions.keep_on()
        await heeding(dispatcher.run(), learning, claim=self.claim, stop=stop)

    async def _log_lease(self, end: LeaseEnd) -> None:
        await asyncio.to_thread(write_lease_end, self.store.blobs, self.batch, end)

    # The record.

    def _outcome(
        self, tally: Tally, scheduler: Scheduler, landing: Landing, elapsed_s: float
    ) -> Outcome:
        left, ledger = tally.left, scheduler.state.ledger
        is_cut_short = left > 0 or bool(tally.not_released)
        exit_code = STOPPED_EARLY if is_cut_short else SOME_FAILED if tally.failed else ALL_DONE
        return Outcome(
            batch=self.batch.batch,
            epoch=self.batch.epoch,
            store=self.store.uri,
            exit_code=exit_code,
            total=tally.total,
            done=tally.done,
            reused=tally.reused,
            failed=tally.failed,
            left=left,
            adopted=self.adopted,
            outputs=tally.outputs,
            elapsed_s=elapsed_s,
            not_released=tuple(tally.not_released),
            stop_reason=scheduler.stop_reason if left else None,
            stage_s=dict(landing.times.seconds),
            usd=ledger.spent,
            usd_open=ledger.reserved(scheduler.state.now_s) if tally.not_released else Usd(0),
            quoted=self.quoted,
            usd_billed=self.usd_billed,
        )
