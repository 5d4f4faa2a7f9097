"""What a batch will cost and how its night will go, before anything is rented: pages to look at."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from prefect.artifacts import acreate_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from nightkiln.core.errors import NightkilnError
from nightkiln.rehearse import Summary, lump_for, rehearsed, summary_of
from nightkiln.rehearse.answer import Answer, answer, check_goals
from nightkiln.rehearse.asking import Jobs, script_of
from nightkiln.rehearse.pages import quote_page, rehearsal_page
from nightkiln.settings import Settings
from nightkiln.wiring import month_now
from tasks.asked import catalog_of
from tasks.names import tag_run, tags_of
from tasks.params import QuoteParams, RehearseParams
from tasks.secrets import s3_given, secrets_of

QUOTE_KEY, REHEARSAL_KEY = "nightkiln-quote", "nightkiln-rehearsal"


async def quoted(params: QuoteParams) -> State[None]:
    """Leave a quote as a page; Completed also when it does not fit, which the message says."""
    try:
        settings = params.settings(**await secrets_of(params))
        found = await asyncio.to_thread(_quote, params, settings)
    except NightkilnError as error:
        return Failed(message=str(error))
    await acreate_markdown_artifact(quote_page(found), key=QUOTE_KEY, description=found.head())
    await tag_run(tags_of(found.catalog.name, settings))
    usd = found.quote.usd
    first = next(iter(found.advice()))
    return Completed(message=f"p50 {usd.p50:.2f} USD, p90 {usd.p90:.2f} USD; {first}")


async def played(params: RehearseParams) -> State[None]:
    """Leave a rehearsal as a page with its chart."""
    try:
        settings = params.settings(**await s3_given(params.s3_block))
        summary, jobs = await asyncio.to_thread(_rehearse, params, settings)
    except NightkilnError as error:
        return Failed(message=str(error))
    nights = f"{len(summary.nights)} nights"
    page = rehearsal_page(summary, jobs)
    await acreate_markdown_artifact(page, key=REHEARSAL_KEY, description=nights)
    await tag_run((f"catalog:{params.catalog.absolute().name}",))
    usd = summary.spread(lambda night: night.usd)
    met = f"deadline met on {summary.deadline_met_fraction:.1%} of {nights}"
    return Completed(message=f"p50 {usd.p50:.2f} USD, p90 {usd.p90:.2f} USD; {met}")


def _quote(params: QuoteParams, settings: Settings) -> Answer:
    catalog, month = catalog_of(params, settings), month_now(settings)
    return answer(catalog, settings, market=settings.market, month=month)


def _rehearse(params: RehearseParams, settings: Settings) -> tuple[Summary, Jobs]:
    check_goals(settings)
    script, jobs = script_of(
        catalog_of(params, settings),
        settings,
        by=settings.by,
        budget=str(settings.budget),
        market=settings.market,
    )
    size = lump_for(script.market, script.deadline_s)
    script = replace(
        script,
        lump=min(size, max(1, jobs.count)),
        fallback=settings.fallback,
        late=settings.late,
    )
    return summary_of(script, list(rehearsed(script, range(params.nights)))), jobs
