"""What a batch will cost and when it will be done; nothing is rented."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.ahead import quoted
from tasks.failing import telling_of_failure, told
from tasks.names import run_name
from tasks.params import QuoteParams
from tasks.results import RESULTS


@flow(name="quote", flow_run_name=run_name, retries=0, persist_result=False, result_storage=RESULTS)
async def quote(params: QuoteParams) -> State[None]:
    """Say what a batch will cost and when it will be done, within half a minute.

    Args:
        params: What would be rendered, by when, and for how much.
    """
    with telling_of_failure():
        return told(await quoted(params))
