"""Once a day: keep the store fast to ask."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.maintain import MaintainParams, maintained
from tasks.results import RESULTS


@flow(name="maintain", retries=0, persist_result=False, result_storage=RESULTS)
async def maintain(params: MaintainParams) -> State[None]:
    """Fold the small files of finished nights into few large ones.

    Args:
        params: Which store, and when what was replaced is removed.
    """
    return await maintained(params)
