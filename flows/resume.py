"""What an automation (``deploy/automations.yaml``) starts when a nightly or ad-hoc run crashes."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.failing import telling_of_failure, told
from tasks.results import RESULTS
from tasks.resume import resumed


@flow(
    name="resume",
    flow_run_name="resume {name}",
    retries=0,
    persist_result=False,
    result_storage=RESULTS,
)
async def resume(flow_run: str, name: str = "") -> State[None]:
    """Begin a crashed run again, once, with what is left of its time and its budget.

    Args:
        flow_run: Id of the run that crashed.
        name: Its name, to be shown.
    """
    del name
    with telling_of_failure():
        return told(await resumed(flow_run))
