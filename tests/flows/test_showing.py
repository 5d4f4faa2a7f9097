"""How many leases are drawn, also when a flow run is tried again."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest

from nightkiln.core.model import Lease, LeaseId, Offer
from nightkiln.testing.waiting import until

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
MOST = 3


async def names_of(run: Any) -> list[str]:
    """Task runs of a flow run that the server knows."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    wanted = FlowRunFilter(id=FlowRunFilterId(any_=[run]))
    async with get_client() as client:
        return sorted(one.name for one in await client.read_task_runs(flow_run_filter=wanted))


async def test_a_machine_of_a_run_that_breaks_off_is_not_shown_as_given_back() -> None:
    from prefect import flow, get_run_logger
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    from tasks.results import RESULTS
    from tasks.showing.observer import PrefectObserver

    @flow(name="breaking", retries=0, persist_result=False, result_storage=RESULTS)
    async def breaking() -> None:
        lease = Lease(LeaseId("night-1-lease-000"), Offer("vast", "9", "RTX 4090"), "m1")
        async with PrefectObserver(get_run_logger()) as observer, observer.lease(lease):
            await asyncio.sleep(0.1)
            raise ZeroDivisionError("in the middle of the night")

    running: Any = breaking
    state = await running(return_state=True)

    of_it = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    ends: list[Any] = []

    async def is_shown() -> bool:
        await asyncio.sleep(0.2)
        async with get_client() as client:
            runs = await client.read_task_runs(flow_run_filter=of_it)
        ends[:] = [one.state for one in runs if one.state is not None and one.state.is_final()]
        return bool(ends)

    await until(is_shown, within_s=60)
    assert state.is_failed()
    assert [(end.name, end.type.value) for end in ends] == [("EndNotSeen", "FAILED")]


async def shows(run: Any, count: int) -> bool:
    await asyncio.sleep(0.2)
    return len(await names_of(run)) == count


async def test_of_many_leases_so_many_are_drawn_over_all_tries_of_a_flow_run() -> None:
    from prefect import flow, get_run_logger
    from prefect.context import FlowRunContext

    from tasks.results import RESULTS
    from tasks.showing.observer import PrefectObserver

    runs: list[Any] = []

    @flow(name="drawing", retries=1, persist_result=False, result_storage=RESULTS)
    async def drawing() -> None:
        context = FlowRunContext.get()
        assert context is not None
        assert context.flow_run is not None
        runs.append(context.flow_run.id)
        tried = len(runs)
        observer = PrefectObserver(get_run_logger(), leases_max=MOST)
        async with observer, AsyncExitStack() as stack:
            for number in range(2):
                offer = Offer("local", f"http://10.0.{tried}.{number}:8188")
                lease = Lease(
                    LeaseId(f"night-{tried}-lease-00{number}"), offer, f"m{tried}{number}"
                )
                await stack.enter_async_context(observer.lease(lease))
        await until(partial(shows, runs[0], min(MOST, 2 * tried)), within_s=60)
        assert tried == 2, "once more"

    running: Any = drawing
    state = await running(return_state=True)

    assert state.is_completed(), state.message
    assert runs[0] == runs[1]
    assert await names_of(runs[0]) == ["local m10 #1", "local m11 #2", "local m20 #1"]
