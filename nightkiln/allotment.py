"""The link of one controller of several to whoever divides the night: orders in, reports out.

Both lie in the store, and nowhere else: Prefect's database is no ledger, and a controller whose
server is away hears and reports all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from nightkiln.core.errors import ShareTaken, StoreUnusable
from nightkiln.core.model import Usd
from nightkiln.core.scheduler import Scheduler
from nightkiln.core.sharing import Share
from nightkiln.dispatch import Dispatcher, Tally
from nightkiln.outcome import Outcome
from nightkiln.ports.blobs import Blobs
from nightkiln.stop_switch import StopSwitch
from nightkiln.store.processes import this_process
from nightkiln.store.shares import (
    Orders,
    Report,
    StopAsked,
    Ticket,
    orders_for,
    report,
    take,
)

BEAT_S = 1.0  # between two looks for orders, and two reports
MORE_USD_S = 120.0  # a run whose budget is spent waits so long for more: others may need less
STOPPED = "the night is stopped"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands just now."""

    total: int
    done: int
    reused: int
    failed: int
    spent: Usd
    reserved: Usd
    budget: Usd | None  # that its scheduler goes by
    limit: Usd | None  # that it keeps to: what it is bound to cannot be taken from it
    images_per_minute: float


@dataclass(frozen=True, slots=True)
class AtWork:
    """A run that renders, as its share is concerned."""

    scheduler: Scheduler
    tally: Tally
    dispatcher: Dispatcher
    clock: Callable[[], float]

    def standing(self) -> Standing:
        """Where it stands."""
        now, state = self.tally.progress(self.clock()), self.scheduler.state
        ledger = state.ledger
        return Standing(
            total=now.total,
            done=now.done,
            reused=now.reused,
            failed=now.failed,
            spent=ledger.spent,
            reserved=ledger.reserved(state.now_s),
            budget=ledger.budget,
            limit=ledger.limit(state.now_s),
            images_per_minute=now.images_per_minute,
        )

    def set_budget(self, usd: Usd) -> None:
        """From now on it may spend this."""
        self.dispatcher.set_budget(usd)


@dataclass(slots=True)
class Allotment:
    """One start of a share, for the run that works on it."""

    blobs: Blobs
    ticket: Ticket
    orders: Orders | None = None  # the last that was heard
    _works: AtWork | None = None
    _told: Report | None = None

    @property
    def share(self) -> Share:
        return self.ticket.share

    def begin(self) -> Usd | None:
        """Take the start; what may be spent at first, None: nothing costs money. Blocking.

        Raises:
            ShareTaken: somebody else has it, or nobody is to have it any more.
            StoreUnusable: the store cannot be read or written.
        """
        if not take(self.blobs, self.ticket, this_process()):
            label = self.ticket.label
            raise ShareTaken(f"{label} was begun already, or called off; there is nothing to do")
        self.orders = orders_for(self.blobs, self.ticket)
        if self.orders is None:
            raise ShareTaken(f"{self.ticket.label}: nobody has asked for it")
        self._told = Report(0, this_process(), self.orders.number, limit=self.orders.usd)
        report(self.blobs, self.ticket, self._told)
        return self.orders.usd

    def connect(self, works: AtWork) -> None:
        """The run renders from now on."""
        self._works = works
        if self.orders is not None and self.orders.usd is not None:
            works.set_budget(self.orders.usd)

    async def keep(self, switch: StopSwitch) -> None:
        """Hear and report, for ever; a store that is away for a moment ends nothing."""
        assert self.orders is not None, "kept before it began"
        _heed(self.orders, switch)  # the night may have been stopped before we took the start
        while True:
            with contextlib.suppress(StoreUnusable):
                await self._hear(switch)
                self._told = self._report()
                await asyncio.to_thread(report, self.blobs, self.ticket, self._told)
            await asyncio.sleep(BEAT_S)

    async def end(self, outcome: Outcome | None, *, exit_code: int | None, said: str) -> None:
        """Report how it ended; without an outcome and an exit code it was cut short.

        Raises:
            StoreUnusable: it cannot be written.
        """
        told = replace(self._report(), has_ended=True, exit_code=exit_code, said=said)
        if outcome is not None:
            told = replace(
                told,
                total=outcome.total,
                done=outcome.done,
                reused=outcome.reused,
                failed=outcome.failed,
                exit_code=outcome.exit_code,
                spent=outcome.usd,
                reserved=outcome.usd_open,
                said=outcome.stop_reason if outcome.stop_reason is not None else "",
                adopted=outcome.adopted,
                outputs=outcome.outputs,
                not_released=outcome.not_released,
                usd_billed=outcome.usd_billed,
            )
        await asyncio.to_thread(report, self.blobs, self.ticket, told)

    async def _hear(self, switch: StopSwitch) -> None:
        orders = await asyncio.to_thread(orders_for, self.blobs, self.ticket)
        if orders is None or (self.orders is not None and orders.number <= self.orders.number):
            return
        self.orders = orders
        if orders.usd is not None and self._works is not None:
            self._works.set_budget(orders.usd)
        _heed(orders, switch)

    def _report(self) -> Report:
        """What is said now. Orders count as heard once the scheduler goes by them."""
        assert self._told is not None, "reported before it began"
        told = replace(self._told, number=self._told.number + 1)
        if self._works is None:
            return told
        now = self._works.standing()
        is_kept = self.orders is not None and now.budget == self.orders.usd
        heard = self.orders.number if self.orders is not None and is_kept else told.orders
        return replace(
            told,
            orders=heard,
            total=now.total,
            done=now.done,
            reused=now.reused,
            failed=now.failed,
            spent=now.spent,
            reserved=now.reserved,
            limit=now.limit,
            images_per_minute=now.images_per_minute,
        )


def _heed(orders: Orders, switch: StopSwitch) -> None:
    if orders.stop is not StopAsked.NO:
        switch.ask(STOPPED, is_now=orders.stop is StopAsked.NOW)
