"""Who works on which share of a night, as the store shows it.

Everything blocks, and raises ``StoreUnusable`` when the store cannot be read or written; what was
asked for then is made good by the next call of ``hear``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from nightkiln.core.model import Usd
from nightkiln.core.sharing import NOTHING, Fate, Money, Part, Share, Start
from nightkiln.ports.observer import WorkerProgress
from nightkiln.share_ledger import ShareLedger
from nightkiln.store.claims import STALE_S
from nightkiln.store.processes import is_dead
from nightkiln.store.shares import (
    Orders,
    Report,
    Split,
    StopAsked,
    Ticket,
    is_void,
    order,
    orders_for,
    report_of,
    taken_by,
    tickets,
    void,
)
from nightkiln.store.store import Store

LEDGER_EVERY_S = 15.0  # how often the ledger is asked what a lost one came to

News: TypeAlias = tuple[str, Mapping[str, Any]]  # an event's name and its fields


@dataclass(slots=True)
class Roll:
    """All starts of all shares in one round."""

    store: Store
    night: str
    split: Split
    round: int
    has_budget: bool
    ledger: ShareLedger
    clock_s: Callable[[], float] = time.monotonic
    parts: list[Part] = field(default_factory=list)
    _tickets: list[list[Ticket]] = field(default_factory=list)
    _reports: dict[Ticket, Report] = field(default_factory=dict)
    _heard_s: dict[Ticket, float] = field(default_factory=dict)
    _news: list[News] = field(default_factory=list)  # that nobody was told yet
    _owed: dict[Ticket, Orders] = field(default_factory=dict)  # nobody knows whether they arrived
    _asked_s: float = float("-inf")

    def take_up(self, left: list[int]) -> None:
        """A round that was begun before goes on: what was given out in it still counts.

        ``left``: how many jobs each share has.
        """
        self._tickets = tickets(self.store.blobs, self.night, self.round, self.split)
        self.parts = [
            Part(tuple(map(self._taken_up, mine)), jobs)
            for mine, jobs in zip(self._tickets, left, strict=True)
        ]

    def _taken_up(self, ticket: Ticket) -> Start:
        orders = orders_for(self.store.blobs, ticket)
        assert orders is not None, "a ticket is known by its orders"
        limit = orders.usd if orders.usd is not None else NOTHING
        start = Start(Fate.WAITING, orders.number, limit, max(orders.most, limit))
        if is_void(self.store.blobs, ticket):
            return replace(start, fate=Fate.VOID)
        return self._seen(ticket, start)

    # What is heard.

    def hear(self) -> list[News]:
        """Read all reports; what is new since the last time.

        Raises:
            StoreUnusable: the store cannot be read or written; what was heard until then is told
                the next time.
        """
        self._deliver()
        for at, part in enumerate(self.parts):
            if part.is_open:
                before = part.starts[-1]
                now = self._seen(self._tickets[at][-1], before)
                self._put(at, now)
                self._news += self._new(at, before.fate, now.fate)
            told = self.told(at)
            if told is not None:
                self.parts[at] = replace(
                    self.parts[at],
                    left=told.left if told.left is not None else part.left,
                    exit_code=told.exit_code,
                )
        self._ask_ledger()
        news, self._news = self._news, []
        return news

    def forgive_silence(self) -> None:
        """Nobody could be heard until now, so nobody is lost for having been silent."""
        self._heard_s = dict.fromkeys(self._heard_s, self.clock_s())

    def _seen(self, ticket: Ticket, start: Start) -> Start:
        """A start as its report shows it."""
        told = report_of(self.store.blobs, ticket)
        if told is None:
            process = taken_by(self.store.blobs, ticket)
            if process is None:
                return start
            told = Report(0, process, orders=0)
        before = self._reports.get(ticket)
        if before is None or before.number != told.number:
            self._heard_s[ticket] = self.clock_s()
        self._reports[ticket] = told
        limit = told.limit if told.limit is not None else NOTHING
        money = Money(told.spent, told.reserved, limit, told.orders)
        return replace(start, fate=self._fate(ticket, told), money=money)

    def _fate(self, ticket: Ticket, told: Report) -> Fate:
        if told.has_ended:
            return Fate.CUT if told.exit_code is None else Fate.ENDED
        is_silent = self.clock_s() - self._heard_s[ticket] > STALE_S
        return Fate.LOST if is_silent or is_dead(told.process) else Fate.RUNNING

    def _new(self, at: int, before: Fate, now: Fate) -> Iterator[News]:
        if now is before:
            return
        told = self.told(at)
        said = told.said if told is not None else ""
        fields = {"share": self._tickets[at][-1].share.batch, "said": said}
        names = {
            Fate.RUNNING: "share_begun",
            Fate.ENDED: "share_ended",
            Fate.CUT: "share_cut_short",
            Fate.LOST: "share_lost",
        }
        if told is not None and now in names:
            host = f"{told.process.host} (process {told.process.pid})"
            yield names[now], {**fields, "host": host}

    def _ask_ledger(self) -> None:
        """What lost ones came to, as far as that is known by now."""
        if not self.has_budget or self.clock_s() - self._asked_s < LEDGER_EVERY_S:
            return
        lost = [
            (at, number)
            for at, part in enumerate(self.parts)
            for number, start in enumerate(part.starts)
            if start.fate is Fate.LOST and start.ledger_usd is None
        ]
        if not lost:
            return
        self._asked_s = self.clock_s()
        for at, number in lost:
            ticket = self._tickets[at][number]
            usd = self.ledger.came_to(ticket.share.batch, self._reports[ticket].process)
            starts = list(self.parts[at].starts)
            starts[number] = replace(starts[number], ledger_usd=usd)
            self.parts[at] = replace(self.parts[at], starts=tuple(starts))

    # What is known.

    def told(self, at: int) -> Report | None:
        """What was said last of a share as a whole: the newest report with its counts."""
        mine = [self._reports[each] for each in self._tickets[at] if each in self._reports]
        counted = [each for each in mine if each.total is not None]
        return counted[-1] if counted else mine[-1] if mine else None

    def all_told(self) -> list[Report]:
        """Everything that was said, the last word of each start."""
        return list(self._reports.values())

    def controllers(self) -> Iterator[WorkerProgress]:
        """Who works on what, shown as a night without shares shows its machines."""
        for at, part in enumerate(self.parts):
            told = self.told(at)
            if part.starts and told is not None:
                yield WorkerProgress(
                    lease_id=self._tickets[at][-1].share.batch,
                    host=f"{told.process.host}:{told.process.pid}",
                    provider="controller",
                    gpu="",
                    state=str(part.starts[-1].fate),
                    done=told.done,
                    failed=told.failed,
                    running=0,
                    usd=float(told.spent),
                )

    def waiting(self) -> list[tuple[int, Ticket]]:
        """Starts that nobody has begun with."""
        return [
            (at, self._tickets[at][-1])
            for at, part in enumerate(self.parts)
            if part.is_open and part.starts[-1].fate is Fate.WAITING
        ]

    # What is told.

    # An order counts from before it is written: a write that failed may have arrived all the same.

    def begin(self, at: int, usd: Usd) -> None:
        """Give out a start of a share; whoever is started next takes it."""
        number = len(self.parts[at].starts) + 1
        share = Share(self.night, at + 1, self.split.of)
        ticket = Ticket(share, self.round, number, self.split.mark)
        start = Start(Fate.WAITING, 1, usd, usd)
        self._tickets[at].append(ticket)
        self.parts[at] = replace(self.parts[at], starts=(*self.parts[at].starts, start))
        self._order(ticket, start)

    def limit(self, at: int, usd: Usd) -> None:
        """Tell whoever works on a share what it may spend from now on."""
        start = self.parts[at].starts[-1].told(usd)
        self._put(at, start)
        self._order(self._tickets[at][-1], start)

    def stop(self, how: StopAsked) -> None:
        """Tell everybody to end, once for each way."""
        for at, part in enumerate(self.parts):
            ticket = self._tickets[at][-1] if part.is_open else None
            if ticket is None:
                continue
            orders = orders_for(self.store.blobs, ticket)
            if orders is None or orders.stop is not how:
                start = part.starts[-1]
                start = start.told(start.limit)
                self._put(at, start)
                self._order(ticket, start, how)

    def never_begins(self, at: int, ticket: Ticket) -> None:
        """See to it that nobody begins with a start; if somebody has, it is heard of."""
        if void(self.store.blobs, ticket):
            self._put(at, replace(self.parts[at].starts[-1], fate=Fate.VOID))

    def _order(self, ticket: Ticket, start: Start, stop: StopAsked = StopAsked.NO) -> None:
        usd = start.limit if self.has_budget else None
        self._owed[ticket] = Orders(start.orders, usd, start.most, stop)
        self._deliver()

    def _deliver(self) -> None:
        for ticket, orders in list(self._owed.items()):
            order(self.store.blobs, ticket, orders)
            del self._owed[ticket]

    def _put(self, at: int, start: Start) -> None:
        part = self.parts[at]
        self.parts[at] = replace(part, starts=(*part.starts[:-1], start))
