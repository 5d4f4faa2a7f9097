"""A run that costs money: quoted first, agreed to or refused, and held against its quote."""

from __future__ import annotations

import asyncio
import io
import json
import os
import select
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

import pytest

from nightkiln.cli.asking import asked, consent, unasked
from nightkiln.cli.run import watch
from nightkiln.core.errors import BadInput, Problem
from nightkiln.core.model import Usd
from nightkiln.core.terms import DEADLINE_S_UNSAID, Fallback, Late
from nightkiln.gate import Ahead
from nightkiln.goals import Goals
from nightkiln.night import Outcome, StopSwitch
from nightkiln.observers import PlainLines
from nightkiln.observers.sentences import outcome_facts
from nightkiln.planner import Again
from nightkiln.receipt import receipt_of
from nightkiln.rehearse import Quote, Rehearsed, play, summary_of
from nightkiln.rehearse.gate import Consent, QuoteGate, freely, script_ahead
from nightkiln.rehearse.telling import in_short, objection
from nightkiln.settings import load_settings
from nightkiln.store.store import Store
from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.market import shipped_market
from nightkiln.testing.priced import PricedWorkers
from nightkiln.testing.samples import write_catalog
from nightkiln.testing.waiting import until
from nightkiln.wiring import Request, chosen_catalog, run_batch
from tests.asking import ask as ask_store

JOBS = 12
MUCH, LITTLE = "2.50", "0.001"
QUESTION = b"start, and spend up to 2.50 USD? [y/N] "


def quote_of(ahead: Ahead) -> Quote:
    """Two nights of what is ahead."""
    script = script_ahead(shipped_market(), ahead)
    nights = [Rehearsed(play(script, seed), None) for seed in range(2)]
    return Quote(summary_of(script, nights), ahead.budget)


@dataclass
class Trial:
    """One batch, run as often as wanted on a stand-in for which money is asked."""

    folder: Path
    worker: StandIn
    said: io.StringIO = field(default_factory=io.StringIO)

    async def run(
        self,
        budget: str,
        consent: Consent = freely,
        *,
        limit: int = JOBS,
        again: Again | None = None,
        switch: StopSwitch | None = None,
        clock: Callable[[], float] = time.time,
        provider: PricedWorkers | None = None,
        per_month: str | None = None,
    ) -> Outcome:
        rented = provider if provider is not None else PricedWorkers([self.worker.url])
        settings = load_settings(
            store=str(self.folder / "store"),
            worker_urls=[self.worker.url],
            budget=budget,
            budget_per_month=per_month,
            by="2h",
        )
        return await run_batch(
            Request(
                chosen_catalog(self.folder / "catalog", limit=limit), name="night", again=again
            ),
            settings,
            PlainLines(self.said),
            switch=switch,
            rents_from={"cloud": rented},
            gate=QuoteGate(quote_of, consent, clock),
        )

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        return ask_store(Store.open(str(self.folder / "store")), sql)


@asynccontextmanager
async def trial(folder: Path) -> AsyncIterator[Trial]:
    write_catalog(folder / "catalog", JOBS)
    async with StandIn() as worker:
        yield Trial(folder, worker)


async def test_a_run_that_costs_is_quoted_shown_and_stored_before_it_rents(tmp_path: Path) -> None:
    seen: list[object] = []

    async def looking(quote: Quote, ahead: Ahead) -> Problem | Usd | None:
        assert ahead.batch == "night"
        seen.append(quote)
        return None

    async with trial(tmp_path) as night:
        outcome = await night.run(MUCH, looking)
        said = night.said.getvalue()

    assert outcome.exit_code == 0
    assert len(seen) == 1
    assert said.index("quoting 12 jobs") < said.index("quote: 12 jobs within ")
    assert " for 2.50 USD: cost p50 0.0" in said
    assert said.index("of market file ordinary (") < said.index("is starting (cloud)")
    [(verdict, jobs, budget, basis, earlier)] = night.ask(
        "select verdict, jobs, budget_usd, basis, "
        "decided_at <= (select min(rented_at) from leases) from quotes"
    )
    assert (verdict, jobs, budget, basis) == ("taken", JOBS, Decimal("2.50"), "market file")
    assert earlier


async def test_a_quote_above_the_budget_is_refused_and_says_what_would_fit(tmp_path: Path) -> None:
    async with trial(tmp_path) as night:
        with pytest.raises(BadInput) as refused:
            await night.run(LITTLE)

    assert "--budget 0.001: is less than" in str(refused.value)
    assert "what would fit: --budget 0.0" in str(refused.value)
    assert night.ask("select verdict from quotes") == [("refused",)]
    assert night.ask("select count(*) from leases") == [(0,)]
    assert night.ask("select done, exit_code from batches") == [(0, 2)]
    assert night.ask("select count(*) from calibration") == [(0,)]


async def test_a_budget_that_is_said_to_fit_does(tmp_path: Path) -> None:
    async with trial(tmp_path) as night:
        with pytest.raises(BadInput) as refused:
            await night.run(LITTLE)
        fits = str(refused.value).rpartition("--budget ")[2].rstrip(")")
        await night.run(fits)

    assert night.ask("select verdict from quotes order by epoch") == [("refused",), ("taken",)]


@pytest.mark.nights
async def test_a_retry_is_quoted_for_what_it_renders_again_and_refused_like_a_run(
    tmp_path: Path,
) -> None:
    async with trial(tmp_path) as night:
        await night.run(MUCH)
        before = night.ask("select job_id, epoch, usd from jobs order by 1")
        again = Again(frozenset(job_id for job_id, *_ in before[:3]), "all of them")
        with pytest.raises(BadInput):
            await night.run(LITTLE, again=again)
        untouched = night.ask("select job_id, epoch, usd from jobs order by 1")
        outcome = await night.run(MUCH, again=again)

    assert night.ask("select verdict, jobs from quotes order by epoch") == [
        ("taken", JOBS),
        ("refused", 3),
        ("taken", 3),
    ]
    assert untouched == before
    assert (outcome.exit_code, outcome.done, outcome.outputs) == (0, JOBS, 3)
    [(leases, jobs, waste)] = night.ask(
        "select (select sum(usd) from leases), (select sum(usd - usd_marginal) from jobs), "
        "(select sum(usd) from waste)"
    )
    assert jobs + waste == leases  # what the results of before cost is waste now


@pytest.mark.nights
async def test_a_run_that_goes_on_is_quoted_for_what_is_left(tmp_path: Path) -> None:
    async with trial(tmp_path) as night:
        await night.run(MUCH, limit=5)
        await night.run(MUCH)
        await night.run(MUCH)  # nothing is left, so nothing is quoted

    assert night.ask("select epoch, jobs from quotes order by 1") == [(1, 5), (2, JOBS - 5)]


async def test_a_finished_run_says_what_it_was_quoted_and_is_calibration(tmp_path: Path) -> None:
    async with trial(tmp_path) as night:
        outcome = await night.run(MUCH)
        receipt = receipt_of(Store.open(str(tmp_path / "store")), outcome.batch)

    assert outcome.quoted is not None
    assert "(quoted: p50 0.0" in outcome_facts(outcome)[0]
    [run] = receipt.runs
    assert run.promise is not None
    assert run.promise.verdict == "taken"
    assert float(run.promise.usd_p90) == pytest.approx(outcome.quoted.usd_p90, abs=1e-6)
    assert (run.budget_usd, run.usd) == (Decimal(MUCH), outcome.usd.quantize(Decimal("0.000001")))
    assert night.ask("select jobs, jobs_left, inside_p90_usd, deadline_met from calibration") == [
        (JOBS, 0, outcome.usd <= Decimal(outcome.quoted.usd_p90), True)
    ]


async def test_a_run_nobody_agrees_to_spends_nothing_and_is_kept_as_declined(
    tmp_path: Path,
) -> None:
    async with trial(tmp_path) as night:
        with pytest.raises(BadInput, match=r"--yes: up to 2\.50 USD would be spent"):
            await night.run(MUCH, unasked)

    assert night.ask("select verdict from quotes") == [("declined",)]
    assert night.ask("select count(*) from leases") == [(0,)]


async def test_free_workers_are_used_without_a_quote_or_a_question(tmp_path: Path) -> None:
    folder = write_catalog(tmp_path / "catalog", 3)
    async with StandIn() as worker:
        settings = load_settings(store=str(tmp_path / "store"), worker_urls=[worker.url])
        outcome = await watch(Request(chosen_catalog(folder)), settings, as_json=True)

    assert (outcome.exit_code, outcome.quoted) == (0, None)
    with Store.open(settings.store).connect() as con:
        assert con.execute("select count(*) from quotes").fetchall() == [(0,)]


@pytest.mark.nights
@pytest.mark.parametrize("may_spend", [False, True])
async def test_without_a_terminal_only_yes_lets_money_be_spent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, may_spend: bool
) -> None:
    """As ``nightkiln run`` is wired, with a quote as it makes them."""
    folder = write_catalog(tmp_path / "catalog", JOBS)
    async with StandIn() as worker:
        settings = load_settings(store=str(tmp_path / "store"), budget=MUCH)
        running = watch(
            Request(chosen_catalog(folder)),
            settings,
            as_json=True,
            may_spend=may_spend,
            rents_from={"cloud": PricedWorkers([worker.url])},
        )
        if may_spend:
            assert (await running).done == JOBS
        else:
            with pytest.raises(BadInput, match="then give --yes"):
                await running

    events = {line["event"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert events["quoting"]["seconds_max"] == 20
    assert events["quoted"]["fits"]
    assert events["quoted"]["usd_p50"] <= events["quoted"]["usd_p90"]
    assert ("lease_ready" in events) == may_spend


# What is played.

GOALS = Goals(budget=Decimal("2.50"), late=Late.STOP, fallback=Fallback.NEVER)
AHEAD = Ahead(JOBS, GOALS, leases_max=4, now_s=1e9)


def test_without_a_deadline_a_night_is_assumed_and_finished_however_late() -> None:
    script = script_ahead(shipped_market(), Ahead(40, GOALS, leases_max=7, now_s=1e9))

    assert (script.deadline_s, script.late) == (DEADLINE_S_UNSAID, Late.FINISH)
    assert (script.market.batch.jobs, script.leases_max) == (40, 7)
    assert (script.budget, script.fallback) == (None, Fallback.NEVER), "the budget is compared"


def test_the_deadline_that_is_played_is_what_is_left_until_it() -> None:
    goals = replace(GOALS, deadline_s=1e9 + 5400.0)

    script = script_ahead(shipped_market(), Ahead(40, goals, leases_max=7, now_s=1e9))

    assert (script.deadline_s, script.late) == (5400.0, Late.STOP)


@pytest.mark.nights
def test_a_deadline_that_will_be_missed_is_a_warning_not_a_refusal() -> None:
    goals = replace(GOALS, deadline_s=1e9 + 600.0, budget=Decimal(100))
    quote = quote_of(Ahead(5000, goals, leases_max=64, now_s=1e9))
    quote = replace(quote, jobs_that_fit=800, deadline_that_fits_s=7200.0)

    said = list(in_short(quote, has_deadline=True))

    assert objection(quote) is None
    assert said[2].startswith("  the deadline was met on 0% of them only; what would fit: ")
    assert "about 800 jobs within 10m00s (--limit)" in said[2]
    assert "all of them within 2h00m (--by 2h00m)" in said[2]
    assert len(list(in_short(quote, has_deadline=False))) == 2


# The question.


@dataclass
class Person:
    """Who sits at a terminal."""

    end: int
    seen: bytes = b""

    def sees(self, text: bytes) -> bool:
        while select.select([self.end], [], [], 0)[0]:
            self.seen += os.read(self.end, 4096)
        return text in self.seen

    def types(self, text: bytes) -> None:
        os.write(self.end, text)


@contextmanager
def terminal() -> Iterator[tuple[TextIO, TextIO, Person]]:
    """A terminal as a program has it, keyboard and screen, and whoever sits there."""
    theirs, ours = os.openpty()
    with (
        os.fdopen(theirs, "rb", buffering=0),
        os.fdopen(os.dup(ours)) as keyboard,
        os.fdopen(ours, "w") as screen,
    ):
        yield keyboard, screen, Person(theirs)


async def answered(quote: Quote, answer: bytes) -> Problem | Usd | None:
    """What becomes of an answer that is typed once the question is there."""
    with terminal() as (keyboard, screen, person):
        person.types(b"y\n")  # ahead: no answer to what nobody has read yet
        agrees = consent(
            is_given=False, can_ask=True, keyboard=keyboard, screen=screen, switch=StopSwitch()
        )
        asking = asyncio.ensure_future(agrees(quote, AHEAD))
        await until(lambda: person.sees(QUESTION))
        assert not asking.done()
        person.types(answer)
        return await asyncio.wait_for(asking, 10.0)


@pytest.fixture(scope="module")
def quote() -> Quote:
    return quote_of(AHEAD)


@pytest.mark.parametrize("answer", [b"y\n", b"Yes\n", b" YES \n"])
async def test_yes_at_a_terminal_lets_money_be_spent(quote: Quote, answer: bytes) -> None:
    assert await answered(quote, answer) is None


@pytest.mark.parametrize("answer", [b"\n", b"n\n", b"yes?\n", b"yy\n", b"\x04"])
async def test_anything_else_does_not(quote: Quote, answer: bytes) -> None:
    refusal = await answered(quote, answer)

    assert isinstance(refusal, Problem)
    assert "was not answered with yes" in str(refusal)


@pytest.mark.parametrize("is_before", [True, False])
async def test_a_run_that_is_told_to_stop_while_it_asks_has_its_answer(
    quote: Quote, *, is_before: bool
) -> None:
    switch = StopSwitch()
    with terminal() as (keyboard, screen, person):
        if is_before:
            switch.ask("stopped by SIGINT")
        asking = asyncio.create_task(
            asked(quote, AHEAD, keyboard=keyboard, screen=screen, switch=switch)
        )
        await until(lambda: person.sees(QUESTION))
        switch.ask("stopped by SIGINT")
        refusal = await asyncio.wait_for(asking, 10.0)

    assert refusal is not None


async def test_a_program_that_reads_json_is_not_asked(quote: Quote) -> None:
    with terminal() as (keyboard, screen, person):
        agrees = consent(
            is_given=False, can_ask=False, keyboard=keyboard, screen=screen, switch=StopSwitch()
        )
        refusal = await agrees(quote, AHEAD)

        assert isinstance(refusal, Problem)
        assert refusal.where == "--yes"
        assert not person.sees(QUESTION)
