"""The calls by which work is handed over, waited for and taken back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from grpclib import Status
from modal_proto import api_pb2 as pb

from nightkiln.testing.modal.calls import CANCELLED, Call, Input, ended
from nightkiln.testing.modal.clock import Clock
from nightkiln.testing.modal.fault_table import SPENT
from nightkiln.testing.modal.functions import Function, asked
from nightkiln.testing.modal.ids import Ids
from nightkiln.testing.modal.pools import Pools
from nightkiln.testing.modal.registry import Registry
from nightkiln.testing.modal.rules import Rules
from nightkiln.testing.modal.tokens import index_in, token
from nightkiln.testing.modal.wire import Answer, refusal

CALLS_MAX = 100_000
WAIT_S_MAX = 60.0  # of the wall: nobody is let wait longer for one answer
OUTSTANDING_MAX = 1_000
BACKOFF_MS = 10  # the SDK waits a second at least, whatever it is told


class Calling:
    """Every call by its id."""

    def __init__(
        self,
        ids: Ids,
        clock: Clock,
        registry: Registry,
        pools: Pools,
        *,
        rules: Rules,
        has_credit: Callable[[], bool],
    ) -> None:
        self._ids, self._clock, self._registry, self._pools = ids, clock, registry, pools
        self._rules, self._has_credit = rules, has_credit
        self._calls: dict[str, Call] = {}

    def answers(self) -> Mapping[str, Answer]:
        return {
            "FunctionCallCancel": self._cancel,
            "FunctionCallFromId": self._from_id,
            "FunctionGetCurrentStats": self._stats,
            "FunctionGetOutputs": self._get_outputs,
            "FunctionMap": self._map,
            "FunctionPutInputs": self._put_inputs,
            "FunctionRetryInputs": self._retry_inputs,
        }

    def __iter__(self) -> Iterator[Call]:
        return iter(self._calls.values())

    def __getitem__(self, call_id: str) -> Call:
        if call_id not in self._calls:
            raise refusal(Status.NOT_FOUND, f"Function call {call_id} not found")
        return self._calls[call_id]

    def forget(self, request: Message) -> None:
        """The results that are asked for are gone, as after the time for which they are kept."""
        if isinstance(request, pb.FunctionGetOutputsRequest):
            self[request.function_call_id].is_expired = True

    async def _map(self, request: pb.FunctionMapRequest) -> Message:
        function = self._registry[request.function_id]
        self._check_disks(function)
        if not self._has_credit():
            raise refusal(Status.RESOURCE_EXHAUSTED, SPENT)
        if len(self._calls) >= CALLS_MAX:
            raise refusal(Status.RESOURCE_EXHAUSTED, f"more than {CALLS_MAX} calls")
        kind = request.function_call_invocation_type
        is_spawned = kind == pb.FUNCTION_CALL_INVOCATION_TYPE_ASYNC
        call = Call(self._ids.new("fc"), function.function_id, is_spawned, self._clock.story_s)
        self._calls[call.call_id] = call
        return pb.FunctionMapResponse(
            function_call_id=call.call_id,
            function_call_jwt=call.call_id,
            pipelined_inputs=self._add(call, list(request.pipelined_inputs)),
            retry_policy=pb.FunctionRetryPolicy(
                retries=asked(function).retries,
                backoff_coefficient=1.0,
                initial_delay_ms=BACKOFF_MS,
                max_delay_ms=BACKOFF_MS,
            ),
            sync_client_retries_enabled=not is_spawned,
            max_inputs_outstanding=OUTSTANDING_MAX,
        )

    def _check_disks(self, function: Function) -> None:
        """An app that writes to its volume would write to this computer."""
        for mount in function.definition.first.volume_mounts:
            if not mount.read_only and not self._rules.has_disks:
                raise refusal(
                    Status.UNIMPLEMENTED,
                    f"the fake Modal has no disk for the volume at {mount.mount_path}, so this "
                    "function is not run (to deploy without models: --no-models)",
                )

    async def _put_inputs(self, request: pb.FunctionPutInputsRequest) -> Message:
        call = self[request.function_call_id]
        return pb.FunctionPutInputsResponse(inputs=self._add(call, list(request.inputs)))

    def _add(
        self, call: Call, items: list[pb.FunctionPutInputsItem]
    ) -> list[pb.FunctionPutInputsResponseItem]:
        added = []
        for one in items:
            item = Input(self._ids.new("in"), call, one.idx, one.input)
            call.inputs.append(item)
            self._pools.put(item)
            added.append(
                pb.FunctionPutInputsResponseItem(
                    idx=one.idx, input_id=item.input_id, input_jwt=token(one.idx)
                )
            )
        return added

    async def _retry_inputs(self, request: pb.FunctionRetryInputsRequest) -> Message:
        """What was not spawned is tried again by the SDK."""
        call = self[request.function_call_jwt]
        for one in request.inputs:
            index = index_in(one.input_jwt)
            item = next(known for known in call.inputs if known.index == index)
            item.output, item.payload = None, one.input
            item.retry_count += 1
            self._pools.put(item)
        return pb.FunctionRetryInputsResponse(input_jwts=[one.input_jwt for one in request.inputs])

    async def _get_outputs(self, request: pb.FunctionGetOutputsRequest) -> Message:
        call = self[request.function_call_id]
        until_s = self._clock.wall_s + min(request.timeout, WAIT_S_MAX)
        while True:
            changed, found = call.changed, self._found(call, request)
            left_s = until_s - self._clock.wall_s
            if found or left_s <= 0:  # also where there is nothing any more, or the SDK would spin
                return pb.FunctionGetOutputsResponse(
                    outputs=found,
                    idxs=[one.idx for one in found],
                    last_entry_id=f"{len(call.log)}-0",
                    num_unfinished_inputs=0 if self._is_expired(call) else call.open_count,
                )
            try:
                async with asyncio.timeout(left_s):
                    await changed.wait()
            except TimeoutError:
                continue

    def _found(
        self, call: Call, request: pb.FunctionGetOutputsRequest
    ) -> list[pb.FunctionGetOutputsItem]:
        if self._is_expired(call):
            return []
        seen = int((request.last_entry_id or "0").partition("-")[0])
        valid = {id(item.output) for item in call.inputs}  # not those of tries before the last
        found = [one for one in call.log[seen:] if id(one) in valid]
        if request.HasField("start_idx"):
            found = [one for one in found if request.start_idx <= one.idx <= request.end_idx]
        return found

    def _is_expired(self, call: Call) -> bool:
        if (
            call.finished_s is not None
            and self._clock.story_s - call.finished_s > self._rules.kept_s
        ):
            call.is_expired = True
        return call.is_expired

    async def _cancel(self, request: pb.FunctionCallCancelRequest) -> Message:
        call = self[request.function_call_id]
        call.is_cancelled = True
        call.is_killed |= request.terminate_containers
        pool = self._pools.of(self._registry[call.function_id])
        for item in call.inputs:
            if item.is_open:
                container_id = item.container_id
                status = pb.GenericResult.GENERIC_STATUS_TERMINATED
                output = ended(item, status, CANCELLED, self._clock.wall_s)
                call.settle(item, output, self._clock.story_s)
                item.container_id = container_id
                pool.drop(item, kill=request.terminate_containers)
        return Empty()

    async def _from_id(self, request: pb.FunctionCallFromIdRequest) -> Message:
        call = self[request.function_call_id]
        return pb.FunctionCallFromIdResponse(
            function_call_id=call.call_id, num_inputs=len(call.inputs)
        )

    async def _stats(self, request: pb.FunctionGetCurrentStatsRequest) -> Message:
        pool = self._pools.of(self._registry[request.function_id])
        return pb.FunctionStats(
            backlog=len(pool.waiting),
            num_total_tasks=len(pool.containers),
            num_running_inputs=sum(one.item is not None for one in pool.containers.values()),
        )
