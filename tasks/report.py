"""Leaves what came of a batch as artifacts of the flow run."""

from __future__ import annotations

import asyncio

from prefect import task
from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact
from prefect.cache_policies import NO_CACHE

from nightkiln.night import Outcome
from nightkiln.report import report_of
from nightkiln.settings import Settings
from nightkiln.wiring import open_store

REPORT_S_MAX = 120.0
REPORT_KEY, FAILURES_KEY = "nightkiln-report", "nightkiln-failures"


@task(
    name="report",
    task_run_name="report",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=0,
    timeout_seconds=REPORT_S_MAX,
)
async def report(outcome: Outcome, settings: Settings) -> dict[str, int]:
    """One page about the batch, and a table of its failures by reason when there are any."""
    there = settings.model_copy(update={"store": outcome.store})
    store = await asyncio.to_thread(open_store, there)
    told = await asyncio.to_thread(report_of, store, outcome)
    await acreate_markdown_artifact(told.page, key=REPORT_KEY, description=outcome.batch)
    if told.failures:
        await acreate_table_artifact(
            [dict(row) for row in told.failures],
            key=FAILURES_KEY,
            description=f"failed jobs of {outcome.batch}, by reason",
        )
    return {"reasons": len(told.failures)}
