"""One controller of several that work on a night; started by nightly, never by hand."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.failing import telling_of_failure
from tasks.results import RESULTS
from tasks.share_params import ShareParams
from tasks.sharing import worked_on


@flow(name="share", retries=0, persist_result=False, result_storage=RESULTS)
async def share(params: ShareParams) -> State[None]:
    """Render one share of a night, within what the night lets it spend.

    Args:
        params: Which share of which night, and what the night was asked for.
    """
    with telling_of_failure():
        return await worked_on(params)
