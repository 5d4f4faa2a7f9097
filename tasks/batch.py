"""What every flow does: one batch from its parameters to the state that the flow run ends in."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from prefect import get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed
from pydantic import BaseModel, ConfigDict, Field

from nightkiln.core.errors import ClaimHeld, NightkilnError
from nightkiln.night import ALL_DONE, STOPPED_EARLY, Outcome, StopSwitch
from nightkiln.observers import Several
from nightkiln.observers.sentences import outcome_facts
from nightkiln.ports.observer import Observer
from nightkiln.ports.provider import Provider
from nightkiln.rehearse.gate import QuoteGate, as_set, freely
from nightkiln.settings import Settings, load_settings
from nightkiln.signals import stopping_on_signals
from nightkiln.wiring import Request, chosen_catalog, run_batch
from tasks.observer import PrefectObserver
from tasks.refusing import refused
from tasks.report import report
from tasks.secrets import s3_given

# Prefect kills a process half a minute after it has asked it to end. What is being rendered may
# take this long, then it is handed back, and the rest of the time is for committing.
STOP_PATIENCE_S = 12.0


class BatchParams(BaseModel):
    """One batch: what to render, on what, and where the results go."""

    # Prefect's form shows a field that may be None as two tabs, so "not given" is empty or 0.
    model_config = ConfigDict(extra="forbid", title="Batch")

    catalog: Path = Field(
        title="Catalog",
        description="Folder with catalog.yaml, prompts and workflow, where the flow runs.",
        json_schema_extra={"position": 0},
    )
    store: str = Field(
        "",
        title="Store",
        description="Folder for the results, or s3://bucket/prefix. Empty: NIGHTKILN_STORE, else "
        "nightkiln-store.",
        json_schema_extra={"position": 1},
    )
    worker_urls: list[str] = Field(
        [],
        title="Workers",
        description="Addresses of running ComfyUI servers. Empty: NIGHTKILN_WORKER_URLS.",
        json_schema_extra={"position": 2},
    )
    limit: int = Field(
        0,
        ge=0,
        title="Limit",
        description="Only the first so many rows of the catalog. 0: all.",
        json_schema_extra={"position": 3},
    )
    overrides: dict[str, str] = Field(
        {},
        title="Overrides",
        description='Inputs of the catalog to hold constant, such as {"steps": "8"}.',
        json_schema_extra={"position": 4},
    )
    name: str = Field(
        "",
        title="Name of the batch",
        description="The same name resumes. Empty: from the catalog, and for a nightly the date.",
        json_schema_extra={"position": 5},
    )
    fresh: bool = Field(
        default=False,
        title="Fresh",
        description="Render anew what other batches of the store have done.",
        json_schema_extra={"position": 6},
    )
    timezone: str = Field(
        "",
        title="Time zone",
        description="Where the date of a nightly is taken. Empty: NIGHTKILN_TIMEZONE, else UTC.",
        json_schema_extra={"position": 7},
    )
    by: str = Field(
        "",
        title="Deadline",
        description="07:00 (the next one in the time zone), 2h, or 2026-12-24T07:00. "
        "Empty: NIGHTKILN_BY, else none.",
        json_schema_extra={"position": 8},
    )
    budget: float = Field(
        0,
        ge=0,
        allow_inf_nan=False,
        title="Budget",
        description="USD that this run may spend; nothing that costs money is used without it. "
        "0: NIGHTKILN_BUDGET.",
        json_schema_extra={"position": 9},
    )
    fallback: Literal["", "never", "auto", "only"] = Field(
        "",
        title="Fallback",
        description="Serverless GPUs: never, auto (where they are better), only. "
        "Empty: NIGHTKILN_FALLBACK, else auto.",
        json_schema_extra={"position": 10},
    )
    late: Literal["", "stop", "finish"] = Field(
        "",
        title="Late",
        description="At the deadline: stop and keep what is made, or finish all the same. "
        "Empty: NIGHTKILN_LATE, else stop.",
        json_schema_extra={"position": 11},
    )
    at_cap: Literal["", "finish", "cancel"] = Field(
        "",
        title="At the budget's end",
        description="Finish what is being rendered, or cancel it. "
        "Empty: NIGHTKILN_AT_CAP, else finish.",
        json_schema_extra={"position": 12},
    )

    providers: list[str] = Field(
        [],
        title="Providers",
        description="Where to render: local, vast, modal. Empty: NIGHTKILN_PROVIDERS, else local "
        "if there are workers, and where there is a budget what is set up.",
        json_schema_extra={"position": 13},
    )

    s3_block: str = Field(
        "",
        title="S3 credentials",
        description="Name of a Secret block with the credentials of a store in S3. Empty: as every "
        "AWS client finds them, where the flow runs.",
        json_schema_extra={"position": 14},
    )

    def settings(self, **secrets: str) -> Settings:
        """Settings of the environment the flow runs in, with what is given here on top."""
        return load_settings(
            **secrets,
            store=self.store or None,
            worker_urls=self.worker_urls,
            providers=self.providers,
            timezone=self.timezone or None,
            by=self.by or None,
            budget=str(self.budget) if self.budget else None,
            fallback=self.fallback or None,
            late=self.late or None,
            at_cap=self.at_cap or None,
        )


async def batch(
    params: BatchParams,
    *,
    is_nightly: bool,
    rents_from: Mapping[str, Provider] | None = None,
) -> State[None]:
    """Check, render, report; how the flow run ends says what came of it.

    ``rents_from``: providers by name, instead of those that the settings make usable.
    """
    switch = StopSwitch()
    try:
        settings = params.settings(**await s3_given(params.s3_block))
        with stopping_on_signals(switch, patience_s=STOP_PATIENCE_S) as heard:
            outcome = await render(
                params, settings, is_nightly=is_nightly, switch=switch, rents_from=rents_from
            )
        # A report that cannot be written is red in the timeline; the images are there all
        # the same.
        reporting: Any = report  # Prefect's types forget that an async task's is awaited
        await reporting(outcome, settings, return_state=True)
    except ClaimHeld as error:
        return refused(error) if is_nightly else Failed(message=str(error))
    except NightkilnError as error:  # its message says what to do; a traceback would bury it
        return Failed(message=str(error))
    return verdict(outcome, is_cancelled=bool(heard))


async def render(
    params: BatchParams,
    settings: Settings,
    *,
    is_nightly: bool,
    switch: StopSwitch,
    also: Observer | None = None,
    rents_from: Mapping[str, Provider] | None = None,
) -> Outcome:
    """Work on the batch inside the current flow run; Prefect retries nothing of it.

    Nobody is there to be asked: who deployed it with a budget has agreed to any quote within it.

    Raises:
        NightkilnError: as ``run_batch`` does; before preflight has passed, nothing was started.
    """
    limit = params.limit if params.limit > 0 else None
    chosen = await asyncio.to_thread(
        chosen_catalog,
        params.catalog,
        overrides=params.overrides,
        limit=limit,
        settings=settings,
    )
    gate = QuoteGate(as_set(settings, chosen), freely)
    name = params.name or None
    request = Request(chosen, name=name, is_nightly=is_nightly, is_fresh=params.fresh)
    async with PrefectObserver(get_run_logger()) as shown:
        observer = shown if also is None else Several((shown, also))
        return await run_batch(
            request, settings, observer, switch=switch, rents_from=rents_from, gate=gate
        )


def verdict(outcome: Outcome, *, is_cancelled: bool) -> State[None]:
    """Completed when every job has its result, as exit code 0 says; else Failed.

    Failed also for a single failed job: a nightly runs while nobody looks, and the state is what
    notifications go by. Everything made is in the store either way. A run that was told to end,
    in the UI or by a signal, is Cancelled; Prefect accepts nothing else from it.
    """
    said = "; ".join(outcome_facts(outcome))
    if outcome.exit_code == ALL_DONE:
        return Completed(message=said)
    if is_cancelled and outcome.exit_code == STOPPED_EARLY:
        return Cancelled(message=said)
    return Failed(message=said)
