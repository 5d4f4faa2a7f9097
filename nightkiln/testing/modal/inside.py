"""The calls that a container makes: asking for inputs, giving outputs, saying that it lives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from grpclib import GRPCError
from modal_proto import api_pb2 as pb

from nightkiln.testing.modal.blobs import Blobs
from nightkiln.testing.modal.calls import Input
from nightkiln.testing.modal.container import Container
from nightkiln.testing.modal.wire import Answer, Reply, mistaken, unknown

HEARTBEAT_S = 10.0  # a heartbeat is answered then, or as soon as there is something to say


class Inside:
    """Answers one container."""

    def __init__(
        self,
        container: Container,
        blobs: Blobs,
        *,
        next_input: Callable[[Container], Awaitable[Input | None]],
        put_output: Callable[[Container, pb.FunctionPutOutputsItem], None],
        mistakes: list[Exception],
    ) -> None:
        self._container, self._mistakes = container, mistakes
        self._next_input, self._put_output = next_input, put_output
        self._answers: Mapping[str, Answer] = {
            **blobs.answers(),
            "ContainerHello": self._nothing,
            "ContainerHeartbeat": self._heartbeat,
            "ContainerStop": self._stop,
            "FunctionGetInputs": self._get_inputs,
            "FunctionPutOutputs": self._put_outputs,
            "TaskResult": self._result,
            "VolumeCommit": self._commit,
            "VolumeReload": self._nothing,
        }

    async def answer(self, name: str, message: Message, _metadata: Mapping[str, str]) -> Reply:
        if name not in self._answers:
            error = unknown(name)
            self._mistakes.append(error)  # a container's own words about it are hard to find
            raise error
        try:
            return await self._answers[name](message)
        except GRPCError:
            raise
        except Exception as error:
            raise mistaken(name, error, self._mistakes) from error

    async def _nothing(self, _request: Message) -> Message:
        return Empty()

    async def _commit(self, _request: pb.VolumeCommitRequest) -> Message:
        return pb.VolumeCommitResponse()

    async def _heartbeat(self, _request: pb.ContainerHeartbeatRequest) -> Message:
        container = self._container
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                await container.told.wait()
        except TimeoutError:
            return pb.ContainerHeartbeatResponse()
        container.told.clear()
        unwanted, container.unwanted = container.unwanted, None
        if unwanted is None or unwanted is not container.item:  # it is done with it meanwhile
            return pb.ContainerHeartbeatResponse()
        return pb.ContainerHeartbeatResponse(
            cancel_input_event=pb.CancelInputEvent(input_ids=[unwanted.input_id])
        )

    async def _stop(self, _request: pb.ContainerStopRequest) -> Message:
        """A container may stop itself: it gets no further input."""
        self._container.is_draining = True
        return pb.ContainerStopResponse()

    async def _get_inputs(self, _request: pb.FunctionGetInputsRequest) -> Message:
        item = await self._next_input(self._container)
        if item is None:
            return pb.FunctionGetInputsResponse(inputs=[pb.FunctionGetInputsItem(kill_switch=True)])
        return pb.FunctionGetInputsResponse(inputs=[item.item()])

    async def _put_outputs(self, request: pb.FunctionPutOutputsRequest) -> Message:
        for output in request.outputs:
            self._put_output(self._container, output)
        return Empty()

    async def _result(self, request: pb.TaskResultRequest) -> Message:
        self._container.trouble = request.result
        return Empty()
