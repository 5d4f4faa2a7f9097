"""Shares of a night: every job in one, and never more money out than there is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from random import Random

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.core.sharing import (
    CENT,
    NOTHING,
    STARTS_MAX,
    Fate,
    Money,
    Part,
    Share,
    Start,
    first_limit,
    free_usd,
    is_over,
    rebalanced,
    share_called,
    share_of,
    share_sql,
    split_usd,
    targets,
)

TOTAL = Decimal("12.00")
job_ids = st.text("0123456789abcdef", min_size=64, max_size=64)


def running(limit: str, *, left: int, spent: str = "0", reserved: str = "0") -> Part:
    usd = Decimal(limit)
    money = Money(Decimal(spent), Decimal(reserved), usd, orders=1)
    return Part((Start(Fate.RUNNING, 1, usd, usd, money),), left)


def over(fate: Fate, limit: str, *, left: int, spent: str, reserved: str = "0") -> Part:
    part = running(limit, left=left, spent=spent, reserved=reserved)
    return replace(part, starts=(replace(part.starts[0], fate=fate),))


@given(job_id=job_ids, of=st.integers(1, 64))
def test_a_job_is_in_one_share_and_the_same_in_sql(job_id: str, of: int) -> None:
    share = share_of(job_id, of)

    assert 1 <= share <= of
    query = f"SELECT {share_sql('job_id', of)} FROM (SELECT ? AS job_id)"  # noqa: S608 - ours
    assert duckdb.execute(query, [job_id]).fetchall() == [(share,)]


@given(number=st.integers(1, 100), of=st.integers(1, 100))
def test_a_share_is_known_by_its_name(number: int, of: int) -> None:
    share = Share("night-2026-11-21", number, of)

    assert share_called(share.batch) == (share if number <= of else None)


@pytest.mark.parametrize("name", ["night", "night-0of2", "night-01of2", "night-1of2-reseed-0"])
def test_what_is_called_otherwise_is_no_share(name: str) -> None:
    assert share_called(name) is None


def test_jobs_fall_evenly_into_shares() -> None:
    dice = Random(7)  # noqa: S311 - a seeded draw
    drawn = [share_of(f"{dice.getrandbits(256):064x}", 4) for _ in range(20_000)]

    assert {4700 < drawn.count(number) < 5300 for number in range(1, 5)} == {True}


@given(
    total=st.decimals("0.01", "100000", places=2),
    weights=st.lists(st.integers(0, 10**7), min_size=1, max_size=64),
)
def test_what_is_split_adds_up_to_the_cent_and_by_weight(
    total: Decimal, weights: list[int]
) -> None:
    parts = split_usd(total, weights)

    whole = sum(weights)
    assert sum(parts) == (total if whole else NOTHING)
    for part, weight in zip(parts, weights, strict=True):
        assert part == part.quantize(CENT)
        assert whole == 0 or abs(part - total * weight / whole) < CENT
        assert part == 0 or weight > 0


def test_what_is_below_a_cent_is_given_to_nobody() -> None:
    assert sum(split_usd(Decimal("1.999"), [1, 1, 1])) == Decimal("1.99")
    assert split_usd(Decimal(-3), [1, 2]) == [NOTHING, NOTHING]


def test_money_follows_the_jobs_that_are_left() -> None:
    parts = [running("6.00", left=900, spent="1.00"), running("6.00", left=100, spent="1.00")]

    assert targets(TOTAL, parts) == [Decimal("10.00"), Decimal("2.00")]


def test_what_is_taken_from_one_is_given_to_another_only_when_it_has_answered() -> None:
    parts = [running("6.00", left=900, spent="1.00"), running("6.00", left=100, spent="1.00")]

    lowered = rebalanced(TOTAL, parts)
    assert lowered == {1: Decimal("2.00")}
    slow = replace(parts[1], starts=(parts[1].starts[0].told(lowered[1]),))
    assert rebalanced(TOTAL, [parts[0], slow]) == {}  # it may have rented in between

    heard = replace(slow.starts[0], money=Money(Decimal(1), NOTHING, Decimal("2.00"), orders=2))
    answered = replace(slow, starts=(heard,))
    assert rebalanced(TOTAL, [parts[0], answered]) == {0: Decimal("10.00")}


def test_what_is_rented_already_cannot_be_taken_away() -> None:
    parts = [
        running("6.00", left=1000),
        running("6.00", left=1, spent="3.00", reserved="2.50"),
    ]

    assert targets(TOTAL, parts)[1] >= Decimal("5.50")
    assert rebalanced(TOTAL, parts)[1] >= Decimal("5.50")


def test_what_one_left_unspent_goes_to_those_that_work_on() -> None:
    parts = [over(Fate.ENDED, "6.00", left=0, spent="1.50"), running("6.00", left=10)]

    assert rebalanced(TOTAL, parts) == {1: Decimal("10.50")}


def test_a_lost_one_keeps_all_that_it_might_have_spent() -> None:
    lost = over(Fate.LOST, "6.00", left=500, spent="0.10")
    other = running("6.00", left=500)

    assert free_usd(TOTAL, [lost, other]) == 0
    assert first_limit(TOTAL, [lost, other], 0) == 0  # so it waits for what the other gives up
    assert rebalanced(TOTAL, [lost, other]) == {1: Decimal("3.00")}


def test_a_lost_one_is_started_with_its_money_once_the_ledger_knows() -> None:
    lost = over(Fate.LOST, "6.00", left=500, spent="0.10")
    known = replace(lost, starts=(replace(lost.starts[0], ledger_usd=Decimal("0.40")),))

    assert first_limit(TOTAL, [known, running("6.00", left=500)], 0) == Decimal("5.60")


def test_a_share_that_cannot_be_started_any_more_is_given_up() -> None:
    gone = Start(Fate.VOID)
    part = Part((gone,) * STARTS_MAX)

    assert Part((gone,) * (STARTS_MAX - 1)).wants_start
    assert (part.is_given_up, part.wants_start) == (True, False)
    assert is_over([part, over(Fate.ENDED, "1", left=0, spent="0")])
    assert not is_over([part, running("1", left=1)])


@pytest.mark.parametrize("fate", [Fate.VOID, Fate.CUT, Fate.LOST])
def test_whoever_did_not_end_in_order_is_started_again(fate: Fate) -> None:
    assert over(fate, "1.00", left=3, spent="0.50").wants_start
    assert not over(Fate.ENDED, "1.00", left=3, spent="0.50").wants_start


@dataclass
class Controller:
    """One that may hear late, rent whatever its limit allows, and die without a word."""

    limit: Decimal
    spent: Decimal = NOTHING
    reserved: Decimal = NOTHING
    orders: int = 1
    is_alive: bool = True

    @property
    def worst(self) -> Decimal:
        """What it may come to, if it hears nothing more."""
        bound = self.spent + self.reserved
        return max(self.limit, bound) if self.is_alive else bound

    def hear(self, start: Start) -> None:
        self.limit, self.orders = start.limit, start.orders

    @property
    def money(self) -> Money:
        bound = self.spent + self.reserved
        return Money(self.spent, self.reserved, max(self.limit, bound), self.orders)


class SharedNight:
    """Controllers that do anything that they may, and whoever divides the money among them."""

    def __init__(self, dice: Random, total: Decimal, count: int) -> None:
        self.dice, self.total = dice, total
        self.parts = [Part(left=dice.randrange(1000)) for _ in range(count)]
        self.all: list[Controller] = []
        self.now: dict[int, Controller] = {}

    def step(self) -> None:
        at = self.dice.randrange(len(self.parts))
        self.dice.choice((self.start, self.act, self.act, self.listen, self.report, self.lose))(at)
        for index, usd in rebalanced(self.total, self.parts).items():
            self._last(index, self.parts[index].starts[-1].told(usd))
        assert sum((one.worst for one in self.all), NOTHING) <= self.total

    def start(self, at: int) -> None:
        part = self.parts[at]
        usd = first_limit(self.total, self.parts, at)
        if part.wants_start and usd > 0:
            started = (*part.starts, Start(Fate.WAITING, 1, usd, usd))
            self.parts[at] = replace(part, starts=started)
            self.now[at] = Controller(usd)
            self.all.append(self.now[at])

    def act(self, at: int) -> None:
        """Rent as much as may be, or end something, for at most what was reserved."""
        one = self.now.get(at)
        if one is None or not one.is_alive:
            return
        room = one.limit - one.spent - one.reserved
        if self.dice.random() < 0.6 and room > 0:
            one.reserved += (room * self.dice.randrange(1, 101) / 100).quantize(Decimal("0.000001"))
            one.reserved = min(one.reserved, one.limit - one.spent)
        elif one.reserved:
            ended = (one.reserved * self.dice.randrange(101) / 100).quantize(Decimal("0.000001"))
            one.reserved -= ended
            one.spent += ended * self.dice.randrange(101) / 100

    def listen(self, at: int) -> None:
        one = self.now.get(at)
        if one is not None and one.is_alive:
            one.hear(self.parts[at].starts[-1])

    def report(self, at: int) -> None:
        one = self.now.get(at)
        if one is not None and one.is_alive:
            self.parts[at] = replace(self.parts[at], left=self.dice.randrange(1000))
            start = replace(self.parts[at].starts[-1], fate=Fate.RUNNING, money=one.money)
            self._last(at, start)

    def lose(self, at: int) -> None:
        one = self.now.get(at)
        if one is not None and one.is_alive and self.dice.random() < 0.3:
            one.is_alive = False
            self._last(at, replace(self.parts[at].starts[-1], fate=Fate.LOST))

    def _last(self, at: int, start: Start) -> None:
        part = self.parts[at]
        self.parts[at] = replace(part, starts=(*part.starts[:-1], start))


@given(
    seed=st.integers(0, 2**32),
    total=st.decimals("0.05", "500", places=2),
    count=st.integers(1, 6),
)
def test_whoever_hears_late_or_dies_all_together_never_pass_the_total(
    seed: int, total: Decimal, count: int
) -> None:
    night = SharedNight(Random(seed), total, count)  # noqa: S311 - seeded
    for at in range(count):
        night.start(at)
    assert sum(one.limit for one in night.all) <= total
    for _ in range(60):
        night.step()
