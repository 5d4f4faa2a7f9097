"""Once a day, after the night: keep the store fast to ask, and see that everything is there."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.failing import telling_of_failure, told
from tasks.maintain import MaintainParams, maintained
from tasks.results import RESULTS


@flow(name="maintain", retries=0, persist_result=False, result_storage=RESULTS)
async def maintain(params: MaintainParams) -> State[None]:
    """Keep the store fast to ask, see that everything is there, and forget old runs.

    Args:
        params: Which store, how thoroughly, and how long Prefect remembers runs.
    """
    with telling_of_failure():
        return told(await maintained(params))
