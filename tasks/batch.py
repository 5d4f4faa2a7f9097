"""What the flows do, as plain functions: one batch, and what to say about it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from prefect import get_run_logger, task
from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import BaseModel, ConfigDict, Field

from nightkiln.night import ALL_DONE, Outcome
from nightkiln.observers import Several
from nightkiln.observers.sentences import duration
from nightkiln.ports.observer import Observer
from nightkiln.settings import Settings, load_settings
from nightkiln.wiring import Request, chosen_catalog, open_store, run_batch
from tasks.observer import PrefectObserver

FAILURES_SHOWN_MAX = 50
_FAILURES = """
select fault, error, count(*) as jobs, any_value(prompt) as for_example
from jobs where batch = ? and status = 'failed'
group by all order by jobs desc limit ?
"""


class BatchParams(BaseModel):
    """One batch: what to render, on what, and where the results go."""

    model_config = ConfigDict(extra="forbid")

    catalog: Path = Field(
        description="Folder with catalog.yaml, prompts and workflow.",
        json_schema_extra={"position": 0},
    )
    store: str | None = Field(
        None,
        description="Folder with results; empty: NIGHTKILN_STORE of the Prefect worker.",
        json_schema_extra={"position": 1},
    )
    worker_urls: list[str] = Field(
        [],
        description="Running ComfyUI servers; empty: NIGHTKILN_WORKER_URLS.",
        json_schema_extra={"position": 2},
    )
    limit: int | None = Field(
        None, ge=1, description="Only the first so many rows.", json_schema_extra={"position": 3}
    )
    overrides: dict[str, str] = Field(
        {},
        description="Inputs of the catalog to hold constant, such as steps: 8.",
        json_schema_extra={"position": 4},
    )
    name: str | None = Field(
        None,
        description="Name of the batch; the same name resumes. Empty: from the catalog.",
        json_schema_extra={"position": 5},
    )
    fresh: bool = Field(
        default=False,
        description="Render anew what other batches of the store have done.",
        json_schema_extra={"position": 6},
    )

    def settings(self) -> Settings:
        """Settings of the Prefect worker's environment, with what is given here on top."""
        return load_settings(store=self.store, worker_urls=self.worker_urls)


async def render(params: BatchParams, *, is_nightly: bool, also: Observer | None = None) -> Outcome:
    """Work on the batch inside the current flow run; Prefect retries nothing of it."""
    chosen = await asyncio.to_thread(
        chosen_catalog, params.catalog, overrides=params.overrides, limit=params.limit
    )
    request = Request(chosen, name=params.name, is_nightly=is_nightly, is_fresh=params.fresh)
    shown = PrefectObserver(get_run_logger())
    observer = shown if also is None else Several((shown, also))
    return await run_batch(request, params.settings(), observer)


@task(name="report", cache_policy=NO_CACHE, persist_result=False, retries=0)
async def report(outcome: Outcome) -> str:
    """Leave the outcome, and failures by reason, as artifacts of the flow run."""
    summary = markdown(outcome)
    await acreate_markdown_artifact(summary, key="nightkiln-outcome", description=outcome.batch)
    failures = await asyncio.to_thread(_failures, outcome) if outcome.failed else []
    if failures:
        await acreate_table_artifact(
            failures, key="nightkiln-failures", description=f"failed jobs of {outcome.batch}"
        )
    return sentence_of(outcome)


def verdict(outcome: Outcome) -> State[None]:
    """Completed when every job has its result; else Failed, so that whoever is told hears of it."""
    state = Completed if outcome.exit_code == ALL_DONE else Failed
    return state(message=sentence_of(outcome))


def sentence_of(outcome: Outcome) -> str:
    """The outcome in one sentence."""
    why = f"; stopped early: {outcome.stop_reason}" if outcome.stop_reason is not None else ""
    return (
        f"{outcome.batch}: {outcome.done} of {outcome.total} jobs done, {outcome.reused} reused, "
        f"{outcome.failed} failed, {outcome.left} left{why}"
    )


def markdown(outcome: Outcome) -> str:
    """The outcome as a page."""
    rows = {
        "jobs": outcome.total,
        "done": outcome.done,
        "reused": outcome.reused,
        "adopted from an earlier run": outcome.adopted,
        "failed": outcome.failed,
        "left": outcome.left,
        "files verified by this run": outcome.outputs,
        "time": duration(outcome.elapsed_s),
        "exit code": outcome.exit_code,
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    ask = 'nightkiln query "select status, count(*) from jobs group by 1"'
    return (
        f"# {outcome.batch}\n\n{sentence_of(outcome)}\n\n| | |\n|---|---|\n{table}\n\n"
        f"Images: `{outcome.store}/images/{outcome.batch}`\n\n"
        f"```\n{ask} --store {outcome.store}\n```\n"
    )


def _failures(outcome: Outcome) -> list[dict[str, object]]:
    with open_store(load_settings(store=outcome.store)).connect() as con:
        answer = con.execute(_FAILURES, [outcome.batch, FAILURES_SHOWN_MAX])
        names = [column[0] for column in answer.description or ()]
        return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
