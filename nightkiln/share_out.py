"""A night for several controllers: checked, planned, quoted and asked about once, then shared out.

The night as a whole is a batch that nothing is rendered in: its claim says that somebody watches
over the shares, so that it can be stopped, and that another night can be refused. What is rendered
belongs to the shares, ``<night>-1of4`` and so on, each a batch of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial

from nightkiln.catalog import scratch
from nightkiln.core.errors import BadInput, Problem
from nightkiln.core.model import Usd
from nightkiln.core.sharing import NOTHING, SHARES_MAX, share_batch
from nightkiln.core.terms import Late
from nightkiln.deployment import usable
from nightkiln.dispatch import tell
from nightkiln.gate import Ahead, Gate, Passage, admitted
from nightkiln.goals import Goals
from nightkiln.heeding import heeding, unless_stopped
from nightkiln.month import MonthGate
from nightkiln.night import LEASES_MAX, StopSwitch
from nightkiln.nights import claimed
from nightkiln.outcome import ALL_DONE, BAD_INPUT, SOME_FAILED, STOPPED_EARLY, Outcome
from nightkiln.places import LOCAL, providers
from nightkiln.ports.observer import Observer
from nightkiln.ports.provider import Provider
from nightkiln.preflight import preflight, tell_what_leaves
from nightkiln.run_record import close_run, open_run
from nightkiln.settings import Settings
from nightkiln.share_ledger import ShareLedger
from nightkiln.share_plan import Planned, plan_shares
from nightkiln.share_roll import Roll
from nightkiln.sharing import LOOK_S, Sharing, Starter
from nightkiln.store.claim import Claim
from nightkiln.store.names import check_batch_name
from nightkiln.store.records import BatchEnd, write_batch_end
from nightkiln.store.shares import Split, close_round, open_round, split_into
from nightkiln.store.store import Store
from nightkiln.wiring import (
    Request,
    batch_name,
    batch_of,
    book_of,
    goals_of,
    month_ledger,
    open_store,
)

FIELD = "controllers"
GIVEN_UP = "a share was started {count} times in vain: {said}"


@dataclass(frozen=True, slots=True)
class Shared:
    """A night that was found in order, and is claimed."""

    store: Store
    claim: Claim
    split: Split
    planned: Planned
    goals: Goals
    names: frozenset[str]  # of providers that bill
    observer: Observer
    switch: StopSwitch
    clock: Callable[[], float]
    look_s: float  # between two looks at what controllers report

    @property
    def name(self) -> str:
        return self.claim.batch

    async def begin(self) -> None:
        """Leave a record that somebody watches over the night from now on, and say so."""
        await asyncio.to_thread(open_run, self.store, self.planned.start)
        total, left = self.planned.total, self.planned.left
        told = {"batch": self.name, "total": total, "settled": total - left, "left": left}
        nothing = {"adopted": 0, "reused": 0, "recalled": 0}  # that is for the shares to do
        await tell(self.observer, "planned", {**told, **nothing})
        await tell(self.observer, "shared_out", {"batch": self.name, FIELD: self.split.of})

    async def end(self, outcome: Outcome) -> None:
        """Leave a record of how it ended."""
        start, ended_s = self.planned.start, self.clock()
        await asyncio.to_thread(close_run, self.store, start, outcome, ended_s, is_whole=True)
        counts = {"done": outcome.done, "reused": outcome.reused, "failed": outcome.failed}
        self.claim.end({"exit_code": outcome.exit_code, **counts})

    async def pass_gate(self, gate: Gate | None, results_per_s: float) -> Passage:
        """See the whole night quoted once, and agreed to, before anybody rents anything.

        Raises:
            BadInput: nothing may be rented.
        """
        if not self.planned.left or not self.names:
            return Passage()
        assert gate is not None, "what bills is rented behind a gate"
        ahead = Ahead(
            self.planned.left,
            replace(self.goals, jobs_per_s_max=results_per_s * self.split.of),
            LEASES_MAX * self.split.of,
            self.clock(),
            self.names,
            self.name,
        )
        say, blobs, batch = partial(tell, self.observer), self.store.blobs, self.planned.start.batch
        passing = admitted(gate, ahead, say, blobs=blobs, batch=batch, clock=self.clock)
        try:
            passage = await unless_stopped(passing, claim=self.claim, switch=self.switch)
        except BadInput:
            await asyncio.to_thread(
                write_batch_end,
                blobs,
                self.planned.start,
                BatchEnd(self.clock(), 0, 0, 0, BAD_INPUT),
            )
            self.claim.end({"exit_code": BAD_INPUT})
            raise
        return passage if passage is not None else Passage()

    async def work(self, starter: Starter, budget: Usd | None, ledger: ShareLedger) -> Outcome:
        """Have all shares worked on, and watch over them."""
        blobs = self.store.blobs
        number = await asyncio.to_thread(open_round, blobs, self.name)
        roll = Roll(self.store, self.name, self.split, number, budget is not None, ledger)
        await asyncio.to_thread(roll.take_up, list(self.planned.of_shares))
        total, until_s = self.planned.total, self._until_s()
        sharing = Sharing(
            roll, budget, starter, self.observer, total, until_s=until_s, look_s=self.look_s
        )
        self.switch.connect(sharing.ask_stop)
        await heeding(sharing.work(), claim=self.claim, stop=sharing.ask_stop)
        await asyncio.to_thread(close_round, blobs, self.name, number)
        await asyncio.to_thread(self.store.refresh_views)
        return self._outcome(sharing)

    def _until_s(self) -> float | None:
        """When nobody is started any more, on the loop's clock."""
        if self.goals.deadline_s is None or self.goals.late is Late.FINISH:
            return None
        return asyncio.get_running_loop().time() + self.goals.deadline_s - self.clock()

    def _outcome(self, sharing: Sharing) -> Outcome:
        """All shares together, as far as their controllers have said."""
        roll, now = sharing.roll, sharing.progress()
        told = roll.all_told()
        starts = [start for part in roll.parts for start in part.starts]
        left = now.left
        spent = [
            one.ledger_usd if one.ledger_usd is not None else one.money.spent for one in starts
        ]
        billed = [one.usd_billed for one in told if one.usd_billed is not None]
        return Outcome(
            batch=self.name,
            epoch=self.claim.epoch,
            store=self.store.uri,
            exit_code=_exit_code(sharing, left),
            total=now.total,
            done=now.done,
            reused=now.reused,
            failed=now.failed,
            left=left,
            adopted=sum(one.adopted for one in told),
            outputs=now.outputs,
            elapsed_s=sharing.elapsed_s,
            not_released=tuple(lease for one in told for lease in one.not_released),
            stop_reason=_why(sharing) if left else None,
            usd=sum(spent, NOTHING),
            usd_open=sum((one.committed for one in starts), NOTHING) - sum(spent, NOTHING),
            usd_billed=sum(billed, NOTHING) if billed else None,
        )


async def share_out(
    request: Request,
    settings: Settings,
    observer: Observer,
    starter: Starter,
    *,
    of: int,
    switch: StopSwitch,
    clock: Callable[[], float] = time.time,
    gate: Gate | None = None,
    rents_from: Mapping[str, Provider] | None = None,
    look_s: float = LOOK_S,
) -> Outcome:
    """Watch over a night that ``of`` controllers work on until all of them have ended.

    The same again resumes it: whoever of an earlier call still works goes on, and each share does
    what is left of it.

    Raises:
        BadInput: as ``run_batch`` does, or so many controllers make no sense; nothing was started.
        ClaimHeld: somebody watches over this night, or another night of the catalog is at work.
        NightkilnError: it could not go on; controllers that have begun go on without it.
    """
    found = await _providers(request, settings, observer, rents_from)
    goals = await asyncio.to_thread(goals_of, settings, now_s=clock())
    goals.check(found.values())
    name = await asyncio.to_thread(batch_name, request, settings, now_s=clock())
    _check(name, of, settings, found)
    bills = frozenset(each.name for each in found.values() if each.bills)
    async with AsyncExitStack() as stack:
        with scratch() as con:
            await asyncio.to_thread(preflight, con, request.catalog, settings, request.object_info)
            await tell_what_leaves(con, request.catalog, found.values(), observer)
            store = await asyncio.to_thread(open_store, settings, create=True)
            await asyncio.to_thread(store.prepare, now_s=clock())
            night = request.catalog.name if request.is_nightly else None
            claim = await stack.enter_async_context(claimed(store.blobs, name, night, clock=clock))
            split = await _split(store, name, of, observer)
            batch = await asyncio.to_thread(
                batch_of, claim, request, settings, store, now_s=time.time()
            )
            planned = await asyncio.to_thread(plan_shares, con, request, store, batch, split)
        shared = Shared(store, claim, split, planned, goals, bills, observer, switch, clock, look_s)
        await shared.begin()
        book = book_of(settings)
        month = month_ledger(settings, store, book)
        if gate is not None and month is not None:
            gate = MonthGate(gate, month, clock)
        passage = await shared.pass_gate(gate, settings.results_per_s)
        budget = passage.budget if passage.budget is not None else goals.budget
        outcome = await shared.work(starter, budget, ShareLedger(store, book))
        outcome = replace(outcome, quoted=passage.quoted)
        await shared.end(outcome)
    return outcome


def workers_of(urls: Sequence[str], number: int, of: int) -> tuple[str, ...]:
    """The workers of one's own that a share may use: no two controllers fill the same one."""
    return tuple(urls[number - 1 :: of])


async def _providers(
    request: Request,
    settings: Settings,
    observer: Observer,
    rents_from: Mapping[str, Provider] | None,
) -> Mapping[str, Provider]:
    found = rents_from
    if found is None:
        found = await asyncio.to_thread(providers, settings, request.catalog)
    found, app = await usable(found, settings, request.catalog)
    if app is not None:
        await tell(observer, "app", {"told": app.line(), **app.as_object()})
    return found


def _check(name: str, of: int, settings: Settings, found: Mapping[str, Provider]) -> None:
    """See that so many controllers have something to do each.

    Raises:
        BadInput: they have not.
    """
    check_batch_name(share_batch(name, SHARES_MAX, SHARES_MAX))
    if not 1 <= of <= SHARES_MAX:
        raise BadInput([Problem(FIELD, f"{of} are too many", f"at most {SHARES_MAX}")])
    if set(found) == {LOCAL} and len(settings.worker_urls) < of:
        what = f"{of} controllers have only {len(settings.worker_urls)} workers to render on"
        raise BadInput([Problem(FIELD, what, "no more controllers than there are workers")])


async def _split(store: Store, name: str, of: int, observer: Observer) -> Split:
    found = await asyncio.to_thread(split_into, store.blobs, name, wanted=of)
    if found.of != of:
        before = f"batch {name} was split among {found.of} controllers and stays so"
        said = f"{before}; {of} were asked for"
        await tell(observer, "warning", {"message": said})
    return found


def _exit_code(sharing: Sharing, left: int) -> int:
    parts = sharing.roll.parts
    if any(part.exit_code == BAD_INPUT for part in parts):
        return BAD_INPUT
    is_whole = all(part.is_settled and part.exit_code != STOPPED_EARLY for part in parts)
    if left or not is_whole:
        return STOPPED_EARLY
    return SOME_FAILED if sharing.progress().failed else ALL_DONE


def _why(sharing: Sharing) -> str:
    """Why jobs are left."""
    if sharing.stop_reason is not None:
        return sharing.stop_reason
    for at, part in enumerate(sharing.roll.parts):
        told = sharing.roll.told(at)
        said = told.said if told is not None else ""
        if part.is_given_up:
            return GIVEN_UP.format(count=len(part.starts), said=said or "nobody said why")
        if part.left and said:
            return said
    return "not all shares were worked on before the deadline"
