"""A run that crashed is begun again, once: its batch, its deadline, the rest of its budget."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import UUID

from prefect import get_client, get_run_logger
from prefect.client.schemas.objects import State
from prefect.deployments import run_deployment
from prefect.states import Completed, Failed, Running

from nightkiln.core.errors import NightkilnError
from nightkiln.core.resuming import RESUMES, Crash, budget_again, is_to_look_again, objection
from nightkiln.resuming import Traces, traces, who_works
from nightkiln.settings import Settings
from nightkiln.store.claims import STALE_S
from nightkiln.wiring import Request, batch_name
from tasks.asked import request_of
from tasks.params import BatchParams
from tasks.secrets import secrets_of

NIGHTLY, SHARE = "nightly", "share"
HEARTBEAT, LOOK_EVERY_S = "prefect.flow-run.heartbeat", 3.0  # a living run says so every 30 s

# Told the crashed run and the parameters to go on with; the id of the flow run that does.
Begins: TypeAlias = Callable[[Any, Mapping[str, Any]], Awaitable[UUID]]


async def resumed(flow_run: str) -> State[None]:
    """Begin it again unless something speaks against it, which is said; neither is a failure."""
    async with get_client() as client:
        return await Resuming(client, _begin_again).resumed(UUID(flow_run.rpartition(".")[2]))


@dataclass(frozen=True, slots=True)
class Asked:
    """What a crashed run was asked for."""

    request: Request
    settings: Settings
    began_s: float  # epoch seconds
    batch: str
    is_shared: bool  # several controllers were to work on it
    is_nameless: bool  # a fresh run without a name, which nobody can resume


@dataclass(frozen=True, slots=True)
class Resuming:
    """Looks into a crash, in Prefect and in the store, and has the run begun again."""

    client: Any
    begins: Begins
    clock: Callable[[], float] = time.time  # epoch seconds

    async def resumed(self, run_id: UUID) -> State[None]:
        """What came of it, in a sentence."""
        run = await self.client.read_flow_run(run_id)
        if run.deployment_id is None:
            return Completed(message=f"{run.name} is left as it is: no deployment started it")
        flow = await self.client.read_flow(run.flow_id)  # a deployment of it may have any name
        if flow.name == SHARE:  # it watches over its shares, and starts them again itself
            return Completed(message=f"{run.name} is left to its night")
        try:
            params = BatchParams.model_validate(run.parameters["params"])
            asked = await self._asked(run, params, is_nightly=flow.name == NIGHTLY)
            run, is_alive = await self._watched(run_id, asked)
            if is_alive:
                more = "it was out of reach only, and is Running again"
                return Completed(message=f"{run.name} is left as it is: {more}")
            crash, left = await self._seen(run, asked)
        except (NightkilnError, KeyError, ValueError) as error:
            return Failed(message=f"{run.name} cannot be resumed: {error}")
        why = objection(crash, now_s=self.clock())
        if why is not None:
            return Completed(message=f"{run.name} is left as it is: {why}")
        again = again_with(run.parameters["params"], crash, left.batch)
        begun = await self.begins(run, again)
        return Completed(message=f"{run.name} has crashed and is resumed, once: flow run {begun}")

    async def _asked(self, run: Any, params: BatchParams, *, is_nightly: bool) -> Asked:
        settings = params.settings(**await secrets_of(params))
        # What never began is begun as if it were due now.
        now = datetime.fromtimestamp(self.clock(), UTC)
        began = run.start_time if run.start_time is not None else now
        request = await asyncio.to_thread(
            request_of, params, settings, is_nightly=is_nightly, began=began
        )
        began_s = began.timestamp()
        batch = await asyncio.to_thread(batch_name, request, settings, now_s=began_s)
        is_nameless = params.fresh and not params.name and not is_nightly
        return Asked(request, settings, began_s, batch, params.controllers > 1, is_nameless)

    async def _watched(self, run_id: UUID, asked: Asked) -> tuple[Any, bool]:
        """The run, once it can be told whether it is alive, and whether it is.

        After the server was away it takes every run for dead, as it has heard nothing meanwhile: of
        one that is heard of again the state says so. One that died on another computer has its
        claim for a while.
        """
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        while True:
            run = await self.client.read_flow_run(run_id)
            at_work = await asyncio.to_thread(
                who_works, asked.batch, asked.settings, now_s=self.clock()
            )
            crash = Crash(run.state.type.value, run.tags, at_work=at_work)
            is_alive = crash.may_be_alive and await self._is_heard(run)
            if is_alive:
                state: Any = Running(message="it was out of reach, and is seen again")
                await self.client.set_flow_run_state(run.id, state, force=True)
            waited_s = loop.time() - began_s
            if not is_to_look_again(crash, is_heard=is_alive, waited_s=waited_s, stale_s=STALE_S):
                return run, is_alive
            await asyncio.sleep(LOOK_EVERY_S)

    async def _is_heard(self, run: Any) -> bool:
        """Whether a run has said since it was taken for dead that it is alive."""
        wanted = {
            "event": {"name": [HEARTBEAT]},
            "resource": {"id": [f"prefect.flow-run.{run.id}"]},
            "occurred": {"since": run.state.timestamp.isoformat()},
        }
        asking = {"filter": wanted, "limit": 1}
        answer = await self.client.request("POST", "/events/filter", json=asking)
        return bool(answer.json()["events"])

    async def _seen(self, run: Any, asked: Asked) -> tuple[Crash, Traces]:
        """The crash as Prefect, the store and the book of leases know it."""
        left = await asyncio.to_thread(
            traces,
            asked.request,
            asked.settings,
            began_s=asked.began_s,
            now_s=self.clock(),
            is_shared=asked.is_shared,
        )
        crash = Crash(
            state=run.state.type.value,
            tags=run.tags,
            at_work=left.at_work,
            is_nameless=asked.is_nameless,
            by_s=left.by_s,
            budget=asked.settings.budget,
            agreed=left.agreed,
            spent=left.spent,
            recounted=left.recounted,
        )
        return crash, left


async def _begin_again(run: Any, params: Mapping[str, Any]) -> UUID:
    """The same deployment; asked for twice, it is there once."""
    running: Any = run_deployment  # Prefect's types leave open whether it is awaited
    begun = await running(
        run.deployment_id,
        parameters={**run.parameters, "params": params},
        tags=[f"{RESUMES}{run.id}"],
        idempotency_key=f"{RESUMES}{run.id}",
        timeout=0,
        as_subflow=False,
    )
    get_run_logger().info("batch %s goes on in flow run %s", params["name"], begun.id)
    return UUID(str(begun.id))


def again_with(params: Mapping[str, Any], crash: Crash, batch: str) -> dict[str, Any]:
    """Parameters that go on with a batch: a time of day would be tomorrow's, a date another one."""
    again = {**params, "name": batch}
    if crash.by_s is not None:
        again["by"] = datetime.fromtimestamp(crash.by_s, UTC).isoformat(timespec="seconds")
    budget = budget_again(crash)
    if budget is not None:
        again["budget"] = float(budget)
    return again
