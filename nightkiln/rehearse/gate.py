"""The gate of a real run: a short rehearsal, its figures shown, then somebody's word.

Where the quote comes from is a function: today a market file, later what providers offer just then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from nightkiln.catalog import Catalog
from nightkiln.core.approval import falls_short, is_too_late
from nightkiln.core.errors import Problem
from nightkiln.core.model import Usd
from nightkiln.core.terms import DEADLINE_S_UNSAID, Late
from nightkiln.gate import Ahead, Passage, Tell
from nightkiln.observers.sentences import amount
from nightkiln.priors import shipped_priors
from nightkiln.rehearse.markets import market_of
from nightkiln.rehearse.measured import measured_in
from nightkiln.rehearse.quoting import Quote, quoted
from nightkiln.rehearse.script import Script, allowed, with_containers, with_jobs, with_models
from nightkiln.rehearse.telling import in_short, objection
from nightkiln.settings import Settings
from nightkiln.store.quotes import Quoted, Verdict
from nightkiln.store.scores import Remembered
from nightkiln.testing.market import Market
from nightkiln.traffic import models_gb
from nightkiln.wiring import remembered_of

QUOTE_S_MAX = 20  # what people are told to wait at most
DEADLINE_S_MIN = 60.0  # that can be played; the run itself knows how little is left

STALE_S = 60.0  # an answer took longer: what was quoted is quoted anew, with the time that is left

Makes: TypeAlias = Callable[[Ahead], Quote]
# None: yes, as quoted; USD: yes, for so much at most; a problem: no.
Consent: TypeAlias = Callable[[Quote, Ahead], Awaitable[Problem | Usd | None]]


@dataclass(frozen=True, slots=True)
class QuoteGate:
    """Lets a run rent if its quote keeps within the budget and ``consent`` is given.

    The deadline does not wait for the answer. After one that took a while the same jobs are quoted
    for the time that is left, and what was agreed to has to suffice for that.
    """

    makes: Makes  # blocking
    consent: Consent
    clock: Callable[[], float] = time.time  # epoch seconds

    async def __call__(self, ahead: Ahead, tell: Tell) -> Passage:
        quote = await self._quoted(ahead, tell)
        problem = objection(quote)
        if problem is not None:
            return Passage(record_of(quote, ahead, Verdict.REFUSED), problem)
        asked_s = self.clock()
        word = await self.consent(quote, ahead)
        if isinstance(word, Problem):
            return Passage(record_of(quote, ahead, Verdict.DECLINED), word)
        cap = word if word is not None else quote.budget
        now_s = self.clock()
        if now_s - asked_s > STALE_S:
            ahead, asked = replace(ahead, now_s=now_s), quote
            problem = _too_late(ahead)
            if problem is None:
                quote = await self._quoted(ahead, tell)
                problem = _too_little(asked, quote, cap)
        verdict = Verdict.TAKEN if problem is None else Verdict.REFUSED
        quoted = replace(record_of(quote, ahead, verdict), budget_usd=cap)
        return Passage(quoted, problem, cap)

    async def _quoted(self, ahead: Ahead, tell: Tell) -> Quote:
        await tell("quoting", {"jobs": ahead.jobs, "seconds_max": QUOTE_S_MAX})
        quote = await asyncio.to_thread(self.makes, ahead)
        has_deadline = ahead.goals.deadline_s is not None
        said = "\n".join(in_short(quote, has_deadline=has_deadline))
        await tell("quoted", {"told": said, **quote.as_object()})
        return quote


def _too_late(ahead: Ahead) -> Problem | None:
    """Why an answer is of no use any more."""
    if not is_too_late(ahead.left_s, may_be_late=ahead.goals.late is Late.FINISH):
        return None
    what = "was answered when the deadline had passed, or was less than a minute away"
    return Problem("the quote", what, "the same command goes on under a new deadline")


def _too_little(asked: Quote, now: Quote, cap: Usd) -> Problem | None:
    """Why what was agreed to does not do any more."""
    if not falls_short(cap, p90_asked=asked.usd.p90, p90_now=now.usd.p90):
        return None
    what = (
        f"was agreed to for {cap} USD; with the time that is left since, nine nights out of ten "
        f"need up to {amount(now.usd.p90)} USD (the p90)"
    )
    return Problem("the quote", what, "start anew with a later deadline, or a larger budget")


def in_market(
    market: Market,
    remembered: Callable[[], Remembered] = Remembered,
    *,
    usd_per_hour_max: Usd | None = None,
) -> Makes:
    """Quotes from a market file, and from what is remembered of the workflow by then.

    ``usd_per_hour_max``: what a machine may cost.
    """

    def makes(ahead: Ahead) -> Quote:
        measured = measured_in(market, remembered(), shipped_priors())
        script = replace(script_ahead(market, ahead), usd_per_hour_max=usd_per_hour_max)
        return quoted(script.with_measured(measured), ahead.budget)

    return makes


def as_set(settings: Settings, catalog: Catalog) -> Makes:
    """Quotes in the market of the settings, of what they let a run have there."""
    market = with_models(market_of(settings.market), models_gb(catalog))
    return in_market(
        with_containers(market, settings.modal_max_containers),
        lambda: remembered_of(catalog, settings),
        usd_per_hour_max=settings.vast_usd_per_hour_max,
    )


async def freely(quote: Quote, ahead: Ahead) -> Problem | Usd | None:
    """Who set the budget has said yes with it."""
    del quote, ahead
    return None


def script_ahead(market: Market, ahead: Ahead) -> Script:
    """What a run has before it, as it is played in ``market``: without the budget, to see its need.

    What free workers will do of it is not known, so it is quoted as if all were rented.
    """
    goals = ahead.goals
    has_deadline = goals.deadline_s is not None
    left_s = ahead.left_s if ahead.left_s is not None else DEADLINE_S_UNSAID
    return Script(
        with_jobs(market, ahead.jobs),
        max(DEADLINE_S_MIN, left_s),
        leases_max=ahead.leases_max,
        fallback=allowed(goals.fallback, ahead.providers),
        late=goals.late if has_deadline else Late.FINISH,
        results_per_s_max=goals.jobs_per_s_max,
    )


def record_of(quote: Quote, ahead: Ahead, verdict: Verdict) -> Quoted:
    """The row that is kept of a quote."""
    summary, usd, finish_s = quote.summary, quote.usd, quote.finish_s
    machines = summary.spread(lambda night: night.leases_most)
    has_deadline = ahead.goals.deadline_s is not None
    return Quoted(
        verdict=verdict,
        made_s=ahead.now_s,
        jobs=ahead.jobs,
        budget_usd=quote.budget,
        deadline_s=ahead.goals.deadline_s,
        usd_p50=usd.p50,
        usd_p90=usd.p90,
        finish_s_p50=finish_s.p50,
        finish_s_p90=finish_s.p90,
        deadline_met_fraction=summary.deadline_met_fraction if has_deadline else None,
        machines_p50=machines.p50,
        machines_p90=machines.p90,
        nights=len(summary.nights),
        jobs_per_lump=summary.script.lump,
        basis=str(quote.as_object()["basis"]),
        market=summary.script.market.name,
        market_sha256=summary.script.market.sha256,
    )
