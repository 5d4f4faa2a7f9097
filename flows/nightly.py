"""The scheduled batch: named after its catalog and the date, so that a rerun resumes the night."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from prefect import flow, runtime
from prefect.client.schemas.objects import State

from nightkiln.core.errors import NightkilnError
from tasks.batch import batch
from tasks.params import BatchParams
from tasks.results import RESULTS


def run_name() -> str:
    """``nightly parti 2026-11-21``: what the list of runs shows; the date is the batch's."""
    params = BatchParams.model_validate(runtime.flow_run.parameters["params"])
    today = datetime.now(zone_of(params))
    return f"{runtime.flow_run.flow_name} {params.catalog.absolute().name} {today:%Y-%m-%d}"


def zone_of(params: BatchParams) -> tzinfo:
    """Where the date of a batch is taken; UTC if that is no place, which the batch will say."""
    try:
        return ZoneInfo(params.settings().timezone)
    except (NightkilnError, ZoneInfoNotFoundError, ValueError):
        return UTC


@flow(
    name="nightly", flow_run_name=run_name, retries=0, persist_result=False, result_storage=RESULTS
)
async def nightly(params: BatchParams) -> State[None]:
    """Render a catalog as the batch of today's date.

    Args:
        params: What to render, on what, and where the results go.
    """
    return await batch(params, is_nightly=True)
