"""Watches over a night that several controllers work on: starts them, divides the money, counts.

It renders nothing itself. What it knows of a controller is what that one reports in the store;
whoever starts controllers (Prefect, a test) is only asked to start them, and is believed only when
it says that one which has not begun never will.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from nightkiln.core.errors import StoreUnusable
from nightkiln.core.model import Usd
from nightkiln.core.sharing import CENT, NOTHING, first_limit, is_over, rebalanced
from nightkiln.dispatch import tell
from nightkiln.ports.observer import Observer, Progress
from nightkiln.share_roll import Roll
from nightkiln.store.claims import STALE_S
from nightkiln.store.shares import StopAsked, Ticket

LOOK_S = 1.0  # between two looks at the reports
LOOKS_PER_ASK = 5  # whether what has not begun ever will
LEDGER_S_MAX = 1800.0  # for the reaper to end what dead ones had rented, so that the ledger knows
AWAY = (
    "the store cannot be read or written ({error}); the controllers go on, and so does this night, "
    "if the store is back within {patience_s:.0f} s"
)


class Starter(Protocol):
    """Whoever starts controllers, here or on other computers. It may fail, and is asked again."""

    async def start(self, ticket: Ticket) -> bool:
        """Start a controller; False: not now. Once per ticket, however often it is called."""

    async def will_not_begin(self, ticket: Ticket) -> bool:
        """Whether one that has not begun never will; False: it may, or nobody knows."""

    async def call_off(self, ticket: Ticket) -> None:
        """It need not be started any more."""


@dataclass(slots=True)
class Sharing:
    """One round of a night, until everybody has ended."""

    roll: Roll
    budget: Usd | None
    starter: Starter
    observer: Observer
    total: int  # jobs of the night
    until_s: float | None = None  # on the loop's clock: nobody is started afterwards
    look_s: float = LOOK_S
    stop: StopAsked = StopAsked.NO
    stop_reason: str | None = None
    elapsed_s: float = 0.0
    _started: set[Ticket] = field(default_factory=set)  # that a controller was asked for
    _asked_s: float = float("-inf")
    _poor_s: float | None = None
    _away_s: float | None = None  # since when the store cannot be read or written
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def ask_stop(self, reason: str, is_now: bool) -> None:  # noqa: FBT001 - as a switch tells it
        """Everybody is to end: what is being rendered is finished, or handed back."""
        self.stop = StopAsked.NOW if is_now else StopAsked.FINISH
        self.stop_reason = self.stop_reason if self.stop_reason is not None else reason
        self._wake.set()

    async def work(self) -> None:
        """Until everybody has ended, and nobody is to be started.

        Raises:
            StoreUnusable: the store could not be read or written for a minute.
        """
        began_s = self._now_s()
        while True:
            is_seen = await self._look()
            self.elapsed_s = self._now_s() - began_s
            await self.observer.progress(self.progress())
            if is_seen and self._is_over():
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self.look_s)
            self._wake.clear()

    def progress(self) -> Progress:
        """Where the night stands, as its controllers say."""
        shares = range(len(self.roll.parts))
        told = [one for at in shares if (one := self.roll.told(at)) is not None]
        done, failed = sum(one.done for one in told), sum(one.failed for one in told)
        reused = sum(one.reused for one in told)
        per_minute = sum(one.images_per_minute for one in told if not one.has_ended)
        left = self.total - done - reused - failed
        return Progress(
            batch=self.roll.night,
            total=self.total,
            done=done,
            reused=reused,
            failed=failed,
            outputs=sum(one.outputs for one in self.roll.all_told()),
            elapsed_s=self.elapsed_s,
            images_per_minute=per_minute,
            eta_s=60 * left / per_minute if per_minute > 0 else None,
            workers=tuple(self.roll.controllers()),
        )

    def _is_over(self) -> bool:
        parts = self.roll.parts
        if any(part.is_open for part in parts):
            return False
        return not self._may_start or is_over(parts) or self._is_out_of_money()

    @property
    def _may_start(self) -> bool:
        is_late = self.until_s is not None and self._now_s() > self.until_s
        return self.stop is StopAsked.NO and not is_late

    def _is_out_of_money(self) -> bool:
        """Nobody works, and what is left of the budget, or may be, starts nobody."""
        if self.budget is None or any(self._limit(at) >= CENT for at in self._wanting()):
            self._poor_s = None
            return False
        self._poor_s = self._now_s() if self._poor_s is None else self._poor_s
        is_patient = self._now_s() - self._poor_s < LEDGER_S_MAX
        if is_patient and any(part.waits_for_ledger for part in self.roll.parts):
            return False
        self.stop_reason = (
            f"the rest of {self.budget:.2f} USD is set aside for controllers that died, until the "
            "ledger says what they spent; run it again later"
        )
        return True

    def _wanting(self) -> list[int]:
        return [at for at, part in enumerate(self.roll.parts) if part.wants_start]

    def _limit(self, at: int) -> Usd:
        return NOTHING if self.budget is None else first_limit(self.budget, self.roll.parts, at)

    # One look.

    async def _look(self) -> bool:
        """False: the store is away, which is borne for as long as a claim bears it.

        From then on others may believe this night dead, and watch over it instead.
        """
        if self._away_s is not None:
            self.roll.forgive_silence()  # those who work cannot report either
        try:
            await self._step()
        except StoreUnusable as error:
            if self._away_s is None:
                self._away_s = self._now_s()
                said = AWAY.format(error=error, patience_s=STALE_S)
                await tell(self.observer, "warning", {"message": said})
            if self._now_s() - self._away_s > STALE_S:
                raise
            return False
        self._away_s = None
        return True

    async def _step(self) -> None:
        for name, fields in await asyncio.to_thread(self.roll.hear):
            await tell(self.observer, name, fields)
        if self.stop is not StopAsked.NO:
            await self._send_home()
            return
        await self._see_who_never_begins()
        if self._may_start:
            await self._begin()
        if self.budget is not None:
            await self._rebalance(self.budget)

    async def _send_home(self) -> None:
        await asyncio.to_thread(self.roll.stop, self.stop)
        for at, ticket in self.roll.waiting():
            await asyncio.to_thread(self.roll.never_begins, at, ticket)
            await self.starter.call_off(ticket)

    async def _see_who_never_begins(self) -> None:
        if self._now_s() - self._asked_s < LOOKS_PER_ASK * self.look_s:
            return
        self._asked_s = self._now_s()
        for at, ticket in self.roll.waiting():
            if ticket in self._started and await self.starter.will_not_begin(ticket):
                await asyncio.to_thread(self.roll.never_begins, at, ticket)

    async def _begin(self) -> None:
        for at in self._wanting():
            usd = self._limit(at)
            if self.budget is None or usd >= CENT:
                await asyncio.to_thread(self.roll.begin, at, usd)
        # Also those of a run before this one: nobody knows whether it got to starting them.
        for _, ticket in self.roll.waiting():
            if ticket not in self._started and await self.starter.start(ticket):
                self._started.add(ticket)

    async def _rebalance(self, budget: Usd) -> None:
        for at, usd in rebalanced(budget, self.roll.parts).items():
            await asyncio.to_thread(self.roll.limit, at, usd)

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()
