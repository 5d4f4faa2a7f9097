"""Every quarter of an hour: give back rented machines that nobody wants any more."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.failing import telling_of_failure, told
from tasks.reap import ReapParams, sweep
from tasks.results import RESULTS


@flow(name="reap", retries=0, persist_result=False, result_storage=RESULTS)
async def reap(params: ReapParams) -> State[None]:
    """Look at everything that is billed, and give back what no living run holds.

    Args:
        params: Which machines are looked at, and how many may be given back at once.
    """
    with telling_of_failure():
        return told(await sweep(params))
