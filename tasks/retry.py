"""Jobs of a batch, rendered again: chosen by a condition, then worked on as any batch is."""

from __future__ import annotations

import asyncio

from prefect import get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed

from nightkiln.core.errors import NightkilnError
from tasks.asked import retry_asked
from tasks.batch import batch
from tasks.failing import failed
from tasks.params import RetryParams
from tasks.secrets import secrets_of


async def retried(params: RetryParams) -> State[None]:
    """Choose the jobs, say how many, and work on them; Completed also when there are none."""
    try:
        settings = params.settings(**await secrets_of(params))
        found = await asyncio.to_thread(retry_asked, params, settings)
    except NightkilnError as error:
        return failed(error)
    for line in found.lines(force="force", reseed="reseed"):
        get_run_logger().info(line)
    if found.request is None:
        return Completed(message=f"no job of batch {found.batch} is to be rendered again")
    return await batch(params, is_nightly=False, request=found.request)
