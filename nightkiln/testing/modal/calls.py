"""Calls, their inputs and what came of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from modal_proto import api_pb2 as pb

Status = pb.GenericResult.GenericStatus
CANCELLED = "Input was cancelled by user"


@dataclass(slots=True, eq=False)
class Input:
    """One input of a call; it may run more than once."""

    input_id: str
    call: Call
    index: int
    payload: pb.FunctionInput
    retry_count: int = 0  # tries that counted against the function's retries
    begun_in: list[str] = field(default_factory=list)  # containers, one for each run of it
    lost: int = 0  # times that its container died under it
    container_id: str = ""  # that has it now
    output: pb.FunctionGetOutputsItem | None = None

    @property
    def runs(self) -> int:
        """Times that a container began with it, preempted ones included."""
        return len(self.begun_in)

    @property
    def is_open(self) -> bool:
        return self.output is None

    def item(self) -> pb.FunctionGetInputsItem:
        """As a container gets it."""
        call = self.call
        return pb.FunctionGetInputsItem(
            input_id=self.input_id,
            input=self.payload,
            function_call_id=call.call_id,
            function_call_invocation_type=(
                pb.FUNCTION_CALL_INVOCATION_TYPE_ASYNC
                if call.is_spawned
                else pb.FUNCTION_CALL_INVOCATION_TYPE_SYNC
            ),
            retry_count=self.retry_count,
            function_map_idx=self.index,
        )


@dataclass(slots=True, eq=False)
class Call:
    """One ``spawn``, ``remote`` or ``map``."""

    call_id: str
    function_id: str
    is_spawned: bool  # then the service repeats failed inputs, else the SDK
    created_s: float  # of the story
    inputs: list[Input] = field(default_factory=list)
    log: list[pb.FunctionGetOutputsItem] = field(default_factory=list)  # in order of completion
    is_cancelled: bool = False
    is_killed: bool = False  # with its containers
    finished_s: float | None = None  # of the story
    is_expired: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def open_count(self) -> int:
        return sum(one.is_open for one in self.inputs)

    def settle(self, item: Input, output: pb.FunctionGetOutputsItem, now_s: float) -> None:
        """What has become of an input; the first word counts."""
        if not item.is_open:
            return
        item.output, item.container_id = output, ""
        self.log.append(output)
        if self.open_count == 0:
            self.finished_s = now_s
        self.wake()

    def wake(self) -> None:
        """Tell everybody who waits for something to change."""
        self.changed.set()
        self.changed = asyncio.Event()


def ended(
    item: Input, status: Status.ValueType, says: str, at_s: float
) -> pb.FunctionGetOutputsItem:
    """An output that no container wrote."""
    return pb.FunctionGetOutputsItem(
        result=pb.GenericResult(status=status, exception=says),
        idx=item.index,
        input_id=item.input_id,
        output_created_at=at_s,
        retry_count=item.retry_count,
    )
