"""What the list of runs shows: a name that says what a run is, and tags to find it by."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext

from nightkiln.core.errors import NightkilnError
from nightkiln.places import provider_names
from nightkiln.settings import Settings
from tasks.catalog_params import CatalogParams
from tasks.params import BatchParams, QuoteParams, RehearseParams, RetryParams, RunParams

TAGS_S_MAX = 10.0
PREFIXED = {"retry": "retry ", "quote": "quote ", "rehearse": "rehearse "}
FORMS: dict[str, type[CatalogParams]] = {
    "retry": RetryParams,
    "quote": QuoteParams,
    "rehearse": RehearseParams,
}

_log = logging.getLogger(__name__)


def run_name() -> str:
    """``parti 2026-11-21 by 07:00 <= $12``: asked by Prefect when a run starts."""
    flow = str(runtime.flow_run.flow_name)
    params = FORMS.get(flow, BatchParams).model_validate(runtime.flow_run.parameters["params"])
    return PREFIXED.get(flow, "") + name_of(params, settings_of(params), begun())


def begun() -> datetime:
    """When this run began for the first time: a retry after midnight is of the same night."""
    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    first = run.start_time if run is not None else None
    return first if first is not None else datetime.now(UTC)


def settings_of(params: CatalogParams) -> Settings:
    """Those of the run; where they make no sense, which the run will say, those of nobody."""
    try:
        return params.settings()
    except NightkilnError:
        return Settings.model_construct(timezone=params.timezone, by=params.by)


def name_of(params: CatalogParams, settings: Settings, now: datetime) -> str:
    """What is rendered, on which date where the night is, by when, and for how much at most."""
    named = params.name if isinstance(params, RunParams) else ""
    name = named or f"{params.catalog.absolute().name} {now.astimezone(zone_of(settings)):%Y-%m-%d}"
    by = f" by {settings.by}" if settings.by else ""
    return name + by + (f" <= {dollars(settings.budget)}" if settings.budget else "")


def dollars(usd: Decimal) -> str:
    """``$12``, or ``$2.50`` where there are cents."""
    return f"${usd:,.0f}" if usd == usd.to_integral_value() else f"${usd:,.2f}"


def zone_of(settings: Settings) -> tzinfo:
    """Where the date of a batch is taken; UTC if that is no place, which the batch will say."""
    try:
        return ZoneInfo(settings.timezone)
    except (ZoneInfoNotFoundError, ValueError):
        return UTC


def tags_of(catalog: str, settings: Settings) -> tuple[str, ...]:
    """What a run can be found by: its catalog, and where it may render."""
    try:
        names = provider_names(settings)
    except NightkilnError:  # the run will say so
        names = settings.providers
    return (f"catalog:{catalog}", *(f"provider:{name}" for name in names))


async def tag_run(tags: Iterable[str]) -> None:
    """Put tags on this flow run, beside those of its deployment; a server that is away is none."""
    run_id = runtime.flow_run.id
    if run_id is None:
        return
    try:
        async with asyncio.timeout(TAGS_S_MAX), get_client() as client:
            there = (await client.read_flow_run(run_id)).tags
            await client.update_flow_run(run_id, tags=sorted({*there, *tags}))
    except Exception:  # noqa: BLE001 - anything that a server or a client can raise
        _log.debug("Prefect could not be told the tags", exc_info=True)
