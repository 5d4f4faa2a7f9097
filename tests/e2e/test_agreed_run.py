"""A run that waits for somebody's word: for as long as it takes, for less money, or for nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import ROUND_UP, Decimal
from pathlib import Path
from typing import Any

import pytest

from nightkiln.core.errors import BadInput, ClaimLost, Problem, Refused
from nightkiln.core.model import Usd
from nightkiln.gate import Ahead
from nightkiln.lease_book import LeaseBook
from nightkiln.night import StopSwitch
from nightkiln.rehearse import Quote
from nightkiln.rehearse.gate import QuoteGate
from nightkiln.store.claim import Claim
from nightkiln.store.claims import claim_json, claim_key, request_stop
from nightkiln.store.processes import this_process
from nightkiln.store.store import Store
from nightkiln.story import read_story
from nightkiln.testing.waiting import until
from tests.adapters.test_month import Books
from tests.e2e.rental import Rental, Service
from tests.e2e.test_quoted_run import AHEAD, JOBS, MUCH, Trial, quote_of, trial

HOUR_S = 3600.0


@dataclass
class Person:
    """Somebody who is asked, and answers when a test lets them."""

    answer: Problem | Usd | None = None
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    was_sent_away: bool = False

    async def __call__(self, quote: Quote, ahead: Ahead) -> Problem | Usd | None:
        del quote, ahead
        self.asked.set()
        try:
            await self.ready.wait()
        except asyncio.CancelledError:
            self.was_sent_away = True
            raise
        return self.answer


def store_of(night: Trial) -> Store:
    return Store.open(str(night.folder / "store"))


async def test_nothing_is_rented_while_somebody_thinks_and_the_batch_stays_claimed(
    tmp_path: Path,
) -> None:
    async with trial(tmp_path) as night:
        person, service = Person(), Service([night.worker.url])
        running = asyncio.create_task(night.run(MUCH, person, provider=Rental(service)))
        await person.asked.wait()
        verbs, quotes = list(service.verbs), night.ask("select count(*) from quotes")
        with pytest.raises(Exception, match="is being worked on by"):
            await night.run(MUCH)
        person.ready.set()
        outcome = await running

    assert (verbs, quotes) == ([], [(0,)])
    assert (outcome.exit_code, outcome.done) == (0, JOBS)
    assert service.rented == {}


async def test_who_agrees_to_less_than_the_budget_has_said_what_the_run_may_spend(
    tmp_path: Path,
) -> None:
    cap = Decimal("0.75")
    async with trial(tmp_path) as night:
        person = Person(answer=cap)
        person.ready.set()
        outcome = await night.run(MUCH, person)

    assert outcome.exit_code == 0
    [story] = store_of(night).story_paths("night")
    opening, _ = read_story(story)
    assert opening.terms.budget == cap
    assert night.ask("select verdict, budget_usd from quotes") == [("taken", cap)]


async def test_a_part_is_rendered_for_the_money_that_was_agreed_to_and_the_rest_is_left(
    tmp_path: Path,
) -> None:
    """One machine for an hour would be a dollar; no more than a cent is to be spent."""
    cap = Decimal("0.01")
    async with trial(tmp_path) as night:
        person = Person(answer=cap)
        person.ready.set()
        outcome = await night.run(MUCH, person)

    assert outcome.usd <= cap
    assert night.ask("select sum(usd) <= 0.01 from leases") in ([(True,)], [(None,)])


async def by_signal(night: Trial, switch: StopSwitch) -> None:
    del night
    switch.ask("stopped by SIGTERM")


async def by_command(night: Trial, switch: StopSwitch) -> None:
    del switch
    store = store_of(night)
    await asyncio.to_thread(request_stop, store.blobs, "night", now=False, requested_s=1.0)


@pytest.mark.parametrize("stop", [by_signal, by_command])
async def test_a_run_that_is_told_to_stop_while_it_waits_stops_and_rents_nothing(
    stop: Callable[[Trial, StopSwitch], asyncio.Future[None]], tmp_path: Path
) -> None:
    async with trial(tmp_path) as night:
        person, switch, service = Person(), StopSwitch(), Service([night.worker.url])
        running = asyncio.create_task(
            night.run(MUCH, person, switch=switch, provider=Rental(service))
        )
        await person.asked.wait()
        await stop(night, switch)
        outcome = await running
        again = await night.run(MUCH)

    assert person.was_sent_away
    assert (outcome.exit_code, outcome.left) == (3, JOBS)
    assert outcome.stop_reason is not None
    assert outcome.stop_reason.startswith("stopped by ")
    assert "rent" not in service.verbs
    assert (again.exit_code, again.done) == (0, JOBS)


async def test_a_run_that_loses_its_batch_while_it_waits_ends(tmp_path: Path) -> None:
    from nightkiln.heeding import unless_stopped

    store = Store.open(str(tmp_path / "store"), create=True)
    never = asyncio.Event()
    async with Claim(store.blobs, "night", clock=lambda: 1e9, heartbeat_s=0.01) as claim:
        waiting = asyncio.create_task(
            unless_stopped(never.wait(), claim=claim, switch=StopSwitch())
        )
        beat = claim_key("night", claim.epoch, "heartbeat")
        await until(lambda: store.blobs.size(beat) is not None)  # it lives while it waits
        assert not waiting.done()
        store.blobs.create(claim_key("night", claim.epoch + 1), claim_json(this_process(), 1e9))
        with pytest.raises(ClaimLost, match="has taken batch 'night' over"):
            await waiting


# An answer that took its time.


@dataclass
class Clock:
    """Goes on while somebody thinks."""

    now_s: float = field(default_factory=time.time)  # the run's deadline is two hours from now

    def __call__(self) -> float:
        return self.now_s


def thinking(clock: Clock, seconds: float, answer: Usd | None = None) -> Person:
    """Whoever answers after so long."""

    class Slow(Person):
        async def __call__(self, quote: Quote, ahead: Ahead) -> Problem | Usd | None:
            clock.now_s += seconds
            return await super().__call__(quote, ahead)

    person = Slow(answer)
    person.ready.set()
    return person


async def test_after_a_while_the_same_jobs_are_quoted_for_the_time_that_is_left(
    tmp_path: Path,
) -> None:
    clock = Clock()
    async with trial(tmp_path) as night:
        outcome = await night.run(MUCH, thinking(clock, 61.0), clock=clock)

    assert outcome.exit_code == 0
    assert night.said.getvalue().count("quote: 12 jobs within ") == 2
    [(verdict, made_s)] = night.ask("select verdict, epoch_us(made_at) / 1e6 from quotes")
    assert (verdict, made_s) == ("taken", pytest.approx(clock.now_s, abs=1.0))


async def test_who_answers_at_once_is_not_quoted_twice(tmp_path: Path) -> None:
    clock = Clock()
    async with trial(tmp_path) as night:
        await night.run(MUCH, thinking(clock, 59.0), clock=clock)

    assert night.said.getvalue().count("quote: 12 jobs within ") == 1


async def test_a_yes_after_the_deadline_rents_nothing(tmp_path: Path) -> None:
    clock = Clock()
    async with trial(tmp_path) as night:
        with pytest.raises(BadInput, match="was answered when the deadline had passed"):
            await night.run(MUCH, thinking(clock, 2 * HOUR_S), clock=clock)

    assert night.ask("select verdict from quotes") == [("refused",)]
    assert night.ask("select count(*) from leases") == [(0,)]


async def test_money_that_was_enough_when_asked_for_has_to_be_enough_when_it_is_given() -> None:
    clock, cap = Clock(), Decimal("0.05")
    said: list[tuple[str, Any]] = []
    jobs = iter((JOBS, 20 * JOBS))  # as if the same had become dearer

    def makes(ahead: Ahead) -> Quote:
        return quote_of(replace(ahead, jobs=next(jobs)))

    async def tell(name: str, fields: Mapping[str, Any]) -> None:
        said.append((name, fields["jobs"]))

    gate = QuoteGate(makes, thinking(clock, 61.0, cap), clock)
    passage = await gate(AHEAD, tell)

    assert passage.refusal is not None
    assert str(passage.refusal).startswith("the quote: was agreed to for 0.05 USD; with the time")
    assert passage.quoted is not None
    assert (passage.quoted.verdict, passage.quoted.budget_usd) == ("refused", cap)
    assert [name for name, _ in said] == ["quoting", "quoted"] * 2


# A month's money.


async def test_a_run_gets_no_more_than_the_month_has_left(tmp_path: Path) -> None:
    async with trial(tmp_path) as night:
        first = await night.run(MUCH, limit=2)
        outcome = await night.run(MUCH, per_month="0.90")
        said = night.said.getvalue()

    assert (outcome.exit_code, outcome.done) == (0, JOBS)
    assert first.usd > 0
    [(budget,)] = night.ask("select budget_usd from quotes where epoch = 2")
    spent = first.usd.quantize(Decimal("0.01"), ROUND_UP)
    assert budget == Decimal("0.90") - spent
    assert f"of 0.90 USD are spent in {time.strftime('%Y-%m', time.gmtime())}" in said
    opening, _ = read_story(store_of(night).story_paths("night")[-1])
    assert opening.terms.budget == budget


async def test_a_night_that_needs_more_than_the_month_has_left_is_refused(tmp_path: Path) -> None:
    async with trial(tmp_path) as night:
        with pytest.raises(Refused, match=r"budget_per_month 0\.01: 0\.00 of 0\.01 USD") as refused:
            await night.run(MUCH, per_month="0.01")

    assert refused.value.batch == "night"
    assert refused.value.usd_p90 is not None
    assert "less than" in str(refused.value)
    assert night.ask("select verdict from quotes") == [("refused",)]
    assert night.ask("select count(*) from leases") == [(0,)]


async def test_what_others_spend_while_somebody_thinks_is_not_left_afterwards(
    tmp_path: Path,
) -> None:
    async with trial(tmp_path) as night:
        person = Person()
        waiting = asyncio.create_task(night.run(MUCH, person, per_month="2.00"))
        await person.asked.wait()
        other = Books(store_of(night), LeaseBook(tmp_path / "state"))
        now = datetime.now(UTC).replace(tzinfo=None).isoformat()
        other.cost("1.999", now, now, batch="other")
        person.ready.set()
        with pytest.raises(Refused, match=r"2\.00 of 2\.00 USD are spent in "):
            await waiting

    assert night.ask("select count(*) from leases where batch = 'night'") == [(0,)]
