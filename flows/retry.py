"""Jobs of a batch again: those that failed, that a condition names, or with other seeds."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.failing import telling_of_failure
from tasks.names import run_name
from tasks.params import RetryParams
from tasks.results import RESULTS
from tasks.retry import retried


@flow(name="retry", flow_run_name=run_name, retries=0, persist_result=False, result_storage=RESULTS)
async def retry(params: RetryParams) -> State[None]:
    """Render settled jobs of a batch again; what it has not done at all is left for adhoc.

    Args:
        params: Which batch, which of its jobs, and on what.
    """
    with telling_of_failure():
        return await retried(params)
