"""The scheduled batch: named after its catalog and the date, so that a rerun resumes the night."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, runtime
from prefect.client.schemas.objects import State

from tasks.batch import BatchParams, batch


def run_name() -> str:
    """``nightly parti 2026-11-21``: what the list of runs shows; the date is UTC's."""
    params = runtime.flow_run.parameters["params"]
    catalog = params["catalog"] if isinstance(params, dict) else params.catalog
    date = runtime.flow_run.scheduled_start_time
    return f"{runtime.flow_run.flow_name} {Path(catalog).name} {date:%Y-%m-%d}"


@flow(name="nightly", flow_run_name=run_name, retries=0, persist_result=False)
async def nightly(params: BatchParams) -> State[None]:
    """Render a catalog as the batch of today's date.

    Args:
        params: What to render, on what, and where the results go.
    """
    return await batch(params, is_nightly=True)
