"""A batch when somebody wants one: named after its catalog and selection, or as they say."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.batch import batch
from tasks.failing import telling_of_failure
from tasks.names import run_name
from tasks.params import BatchParams
from tasks.results import RESULTS
from tasks.sharing import shared


@flow(
    name="adhoc",
    flow_run_name=run_name,
    retries=0,
    persist_result=False,
    result_storage=RESULTS,
)
async def adhoc(params: BatchParams) -> State[None]:
    """Render a catalog now; the same parameters again resume the same batch.

    Args:
        params: What to render, on what, and where the results go.
    """
    with telling_of_failure():
        if params.controllers > 1:
            return await shared(params, is_nightly=False)
        return await batch(params, is_nightly=False)
