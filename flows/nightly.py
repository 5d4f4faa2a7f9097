"""The scheduled batch: named after its catalog and the date, so that a rerun resumes the night."""

from __future__ import annotations

from typing import Any

from prefect import flow, runtime
from prefect.client.schemas.objects import State

from tasks.batch import BatchParams, render, report, verdict


def run_name() -> str:
    """``nightly parti``: what the list of runs shows."""
    params = runtime.flow_run.parameters["params"]
    catalog = params["catalog"] if isinstance(params, dict) else params.catalog
    return f"{runtime.flow_run.flow_name} {str(catalog).rstrip('/').rpartition('/')[2]}"


@flow(name="nightly", flow_run_name=run_name, retries=0, persist_result=False)
async def nightly(params: BatchParams) -> State[Any]:
    """Render a catalog as the batch of today's date.

    Args:
        params: What to render, on what, and where the results go.
    """
    outcome = await render(params, is_nightly=True)
    await report(outcome)
    return verdict(outcome)
