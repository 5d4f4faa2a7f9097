"""Watching over a shared night whose store is away for a while: nothing lost, nothing doubled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

import pytest

from nightkiln.blobs.local import LocalBlobs
from nightkiln.core.errors import StoreUnusable
from nightkiln.core.sharing import Fate, free_usd
from nightkiln.lease_book import LeaseBook
from nightkiln.share_ledger import ShareLedger
from nightkiln.share_roll import Roll
from nightkiln.sharing import Sharing
from nightkiln.store.claims import STALE_S
from nightkiln.store.processes import Process
from nightkiln.store.shares import (
    Orders,
    Report,
    Split,
    StopAsked,
    Ticket,
    orders_for,
    report,
    take,
    tickets,
)
from nightkiln.store.store import Store
from nightkiln.testing import virtual_time
from tests.watcher import Watcher

BUDGET, SHARES, JOBS = Decimal("4.00"), 2, 20
ELSEWHERE = Process("far.example", 42, "", "")  # so that nobody here can say whether it lives


class Moody(LocalBlobs):
    """A folder that cannot be reached while it is away."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.is_away: Callable[[], bool] = lambda: False
        self.loses_replies = False  # what is written arrives, and who wrote it does not know
        self.refused = 0

    def put(self, key: str, data: bytes | Path) -> None:
        if self.is_away() and self.loses_replies:
            super().put(key, data)
        self._see()
        super().put(key, data)

    def get(self, key: str) -> bytes:
        self._see()
        return super().get(key)

    def _see(self) -> None:
        if self.is_away():
            self.refused += 1
            raise StoreUnusable("nobody answers")


@dataclass
class Controllers:
    """Controllers on other computers, whose way to the store is as it always was."""

    near: LocalBlobs
    work_s: float
    beat_s: float = 1.0  # between two reports
    started: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    running: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self, ticket: Ticket) -> bool:
        self.started.append(ticket.label)
        self.running.add(asyncio.create_task(self._work(ticket)))
        return True

    async def will_not_begin(self, ticket: Ticket) -> bool:
        del ticket
        return False

    async def call_off(self, ticket: Ticket) -> None:
        del ticket

    async def _work(self, ticket: Ticket) -> None:
        """Hear and report again and again, as far as the store is there."""
        assert take(self.near, ticket, ELSEWHERE)
        until_s = now_s() + self.work_s
        told, is_stopped = Report(0, ELSEWHERE, 0, total=JOBS // SHARES), False
        while now_s() < until_s and not is_stopped:
            with suppress(StoreUnusable):
                orders = orders_for(self.near, ticket)
                assert orders is not None
                is_stopped = orders.stop is not StopAsked.NO
                told = replace(told, number=told.number + 1, orders=orders.number, limit=orders.usd)
                report(self.near, ticket, told)
            await asyncio.sleep(self.beat_s)
        if is_stopped:
            self.stopped.append(ticket.label)
        ended = replace(told, number=told.number + 1, has_ended=True, exit_code=0)
        report(self.near, ticket, replace(ended, done=JOBS // SHARES))


def now_s() -> float:
    return asyncio.get_running_loop().time()


class Scene:
    """A night of two controllers, and a store that is away in between."""

    def __init__(self, folder: Path, *, work_s: float = 200.0) -> None:
        self.store = Store.open(str(folder / "store"), create=True)
        self.near = LocalBlobs(Path(self.store.uri))
        self.blobs = Moody(Path(self.store.uri))
        self.store.blobs = self.blobs
        self.watched, self.starter = Watcher(), Controllers(self.near, work_s)
        self.ledger = ShareLedger(self.store, LeaseBook(folder / "state"))

    def roll(self, clock_s: Callable[[], float] = lambda: 0.0) -> Roll:
        split = Split(SHARES, "mark")
        roll = Roll(self.store, "night", split, 1, True, self.ledger, clock_s)
        roll.take_up([JOBS // SHARES] * SHARES)
        return roll

    def watch(self, *, away_s: tuple[float, float], stop_s: float | None = None) -> Sharing:
        """The night to its end; seconds are of its own."""

        async def night() -> Sharing:
            roll = self.roll(now_s)
            sharing = Sharing(roll, BUDGET, self.starter, self.watched, JOBS)
            self.blobs.is_away = lambda: away_s[0] <= now_s() < away_s[1]
            if stop_s is not None:
                loop = asyncio.get_running_loop()
                loop.call_at(stop_s, sharing.ask_stop, "somebody said so", True)
            await sharing.work()
            return sharing

        return virtual_time.run(night())

    def orders(self, share: int) -> Orders:
        [ticket] = tickets(self.near, "night", 1, Split(SHARES, "mark"))[share]
        told = orders_for(self.near, ticket)
        assert told is not None
        return told


@pytest.mark.parametrize("away_s", [(0.0, 30.0), (20.5, 20.9), (20.0, 20.0 + STALE_S)])
def test_a_store_that_comes_back_within_a_minute_ends_no_watch(
    tmp_path: Path, away_s: tuple[float, float]
) -> None:
    scene = Scene(tmp_path)

    sharing = scene.watch(away_s=(away_s[0], away_s[1]))

    assert sorted(scene.starter.started) == ["night-1of2-1-1", "night-2of2-1-1"]
    assert [part.starts[-1].fate for part in sharing.roll.parts] == [Fate.ENDED, Fate.ENDED]
    assert sharing.progress().done == JOBS


def test_that_the_store_is_away_is_said_once_and_what_is_heard_in_between_is_said_later(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path, work_s=30.0)

    scene.watch(away_s=(20.0, 50.0))

    told = scene.watched.names()
    assert (told.count("warning"), told.count("share_begun"), told.count("share_ended")) == (
        1,
        2,
        2,
    )
    [said] = [fields["message"] for name, fields in scene.watched.events if name == "warning"]
    assert "nobody answers" in said
    assert scene.blobs.refused > 20


def test_controllers_that_could_not_report_either_are_not_taken_for_lost(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.starter.near, scene.starter.beat_s = scene.blobs, 7.0

    scene.watch(away_s=(20.0, 20.0 + STALE_S))

    assert "share_lost" not in scene.watched.names()
    assert len(scene.starter.started) == SHARES


def test_a_store_that_stays_away_ends_the_watch_as_it_ends_a_claim(tmp_path: Path) -> None:
    scene = Scene(tmp_path)

    with pytest.raises(StoreUnusable, match="nobody answers"):
        scene.watch(away_s=(20.0, 20.0 + STALE_S + 2.0))


def test_a_stop_that_was_asked_for_while_the_store_was_away_reaches_everybody(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path)

    sharing = scene.watch(away_s=(20.0, 40.0), stop_s=30.0)

    assert sorted(scene.starter.stopped) == ["night-1of2-1-1", "night-2of2-1-1"]
    assert sharing.elapsed_s == pytest.approx(42.0, abs=3.0)


@pytest.mark.parametrize("loses_replies", [False, True])
def test_a_limit_of_which_nobody_knows_whether_it_arrived_counts_and_is_given_again(
    tmp_path: Path, *, loses_replies: bool
) -> None:
    scene = Scene(tmp_path)
    roll = scene.roll()
    roll.begin(0, Decimal("1.00"))
    scene.blobs.loses_replies = loses_replies

    scene.blobs.is_away = lambda: True
    with pytest.raises(StoreUnusable):
        roll.limit(0, Decimal("3.00"))
    with pytest.raises(StoreUnusable):
        roll.begin(1, Decimal("1.00"))
    free = free_usd(BUDGET, roll.parts)
    scene.blobs.is_away = lambda: False
    roll.hear()

    assert free == 0
    assert (scene.orders(0).number, scene.orders(0).usd) == (2, Decimal("3.00"))
    assert scene.orders(1).usd == Decimal("1.00")
    assert [ticket.label for _, ticket in roll.waiting()] == ["night-1of2-1-1", "night-2of2-1-1"]
