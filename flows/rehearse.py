"""A batch's night, played many times before it is paid for; nothing is rented."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.ahead import played
from tasks.failing import telling_of_failure, told
from tasks.names import run_name
from tasks.params import RehearseParams
from tasks.results import RESULTS


@flow(
    name="rehearse", flow_run_name=run_name, retries=0, persist_result=False, result_storage=RESULTS
)
async def rehearse(params: RehearseParams) -> State[None]:
    """Play the night again and again in a simulated market, and show how it goes.

    Args:
        params: What would be rendered, by when, for how much, and how often it is played.
    """
    with telling_of_failure():
        return told(await played(params))
