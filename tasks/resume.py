"""A run that crashed is begun again, once: its batch, its deadline, the rest of its budget."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prefect import get_client, get_run_logger
from prefect.client.schemas.objects import State
from prefect.deployments import run_deployment
from prefect.states import Completed, Failed, Running

from nightkiln.core.errors import NightkilnError
from nightkiln.core.resuming import RESUMES, Crash, budget_left, objection
from nightkiln.resuming import Traces, traces
from tasks.asked import request_of
from tasks.params import BatchParams
from tasks.secrets import secrets_of

NIGHTLY, SHARE = "nightly", "share"
# A living run says so every 30 s, or as its Prefect worker is told.
HEARTBEAT, HEARTBEAT_S_MAX, LOOK_EVERY_S = "prefect.flow-run.heartbeat", 45.0, 3.0


async def resumed(flow_run: str) -> State[None]:
    """Begin it again unless something speaks against it, which is said; neither is a failure."""
    async with get_client() as client:
        run = await client.read_flow_run(UUID(flow_run.rpartition(".")[2]))
        if run.deployment_id is None:
            return Completed(message=f"{run.name} is left as it is: no deployment started it")
        flow = await client.read_flow(run.flow_id)  # a deployment of it may have any name
        if flow.name == SHARE:  # it watches over its shares, and starts them again itself
            return Completed(message=f"{run.name} is left to its night")
        try:
            params = BatchParams.model_validate(run.parameters["params"])
            is_nightly = flow.name == NIGHTLY
            crash, left = await _seen(run, params, is_nightly=is_nightly)
        except (NightkilnError, KeyError, ValueError) as error:
            return Failed(message=f"{run.name} cannot be resumed: {error}")
        why = objection(crash, now_s=time.time())
        if why is not None:
            alive = crash.at_work and await _revived(client, run)
            more = "; it was out of reach only, and is Running again" if alive else ""
            return Completed(message=f"{run.name} is left as it is: {why}{more}")
        again = again_with(run.parameters["params"], crash, left.batch)
    # Asked for twice, it is there once.
    running: Any = run_deployment  # Prefect's types leave open whether it is awaited
    begun = await running(
        run.deployment_id,
        parameters={**run.parameters, "params": again},
        tags=[f"{RESUMES}{run.id}"],
        idempotency_key=f"{RESUMES}{run.id}",
        timeout=0,
        as_subflow=False,
    )
    get_run_logger().info("batch %s goes on in flow run %s", left.batch, begun.id)
    return Completed(message=f"{run.name} has crashed and is resumed, once: flow run {begun.id}")


def again_with(params: Mapping[str, Any], crash: Crash, batch: str) -> dict[str, Any]:
    """Parameters that go on with a batch: a time of day would be tomorrow's, a date another one."""
    again = {**params, "name": batch}
    if crash.by_s is not None:
        again["by"] = datetime.fromtimestamp(crash.by_s, UTC).isoformat(timespec="seconds")
    left = budget_left(crash)
    if left is not None:
        again["budget"] = float(left)
    return again


async def _seen(run: Any, params: BatchParams, *, is_nightly: bool) -> tuple[Crash, Traces]:
    """The crash as Prefect, the store and the book of leases know it."""
    settings = params.settings(**await secrets_of(params))
    request = await asyncio.to_thread(request_of, params, settings, is_nightly=is_nightly)
    now_s = time.time()
    # What never began is begun as if it were due now.
    began_s = run.start_time.timestamp() if run.start_time is not None else now_s
    left = await asyncio.to_thread(traces, request, settings, began_s=began_s, now_s=now_s)
    crash = Crash(
        state=run.state.type.value,
        tags=run.tags,
        at_work=left.at_work,
        is_nameless=params.fresh and not params.name and not is_nightly,
        by_s=left.by_s,
        budget=settings.budget,
        spent=left.spent,
    )
    return crash, left


async def _revived(client: Any, run: Any) -> bool:
    """Whether a run that was taken for dead is seen alive; its state then says so again.

    After the server was away it takes every run for dead, as it has heard nothing meanwhile.
    """
    wanted = {
        "event": {"name": [HEARTBEAT]},
        "resource": {"id": [f"prefect.flow-run.{run.id}"]},
        "occurred": {"since": run.state.timestamp.isoformat()},
    }
    until_s = time.monotonic() + HEARTBEAT_S_MAX
    while time.monotonic() < until_s:
        answer = await client.request("POST", "/events/filter", json={"filter": wanted, "limit": 1})
        if answer.json()["events"]:
            state: Any = Running(message="it was out of reach, and is seen again")
            await client.set_flow_run_state(run.id, state, force=True)
            return True
        await asyncio.sleep(LOOK_EVERY_S)
    return False
