"""gRPC as the SDK speaks it: every call that the installed SDK knows, by name.

The table of calls is read from the descriptors of the wheel, so a newer SDK that asks for more is
told by name what is missing here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpclib import GRPCError, Status
from grpclib.const import Cardinality, Handler
from grpclib.server import Stream
from modal_proto import api_pb2

Reply: TypeAlias = Message | Sequence[Message]  # several: a call that streams
Answer: TypeAlias = Callable[[Any], Awaitable[Reply]]
Answering: TypeAlias = Callable[[str, Message, Mapping[str, str]], Awaitable[Reply]]

MISTAKES_MAX = 10  # that are remembered: one is enough to fail a test
_CARDINALITY = {
    (False, False): Cardinality.UNARY_UNARY,
    (False, True): Cardinality.UNARY_STREAM,
    (True, False): Cardinality.STREAM_UNARY,
    (True, True): Cardinality.STREAM_STREAM,
}


def refusal(status: Status, says: str) -> GRPCError:
    """What a call is refused with."""
    return GRPCError(status, says)


def unknown(name: str) -> GRPCError:
    """What the SDK asked for and nobody has built."""
    return refusal(
        Status.UNIMPLEMENTED,
        f"the fake Modal has no {name}: this modal SDK asks for more than nightkiln.testing.modal "
        "answers",
    )


def mistaken(name: str, error: Exception, mistakes: list[Exception]) -> GRPCError:
    """What a call is refused with that we failed at; the SDK does not repeat it."""
    if len(mistakes) < MISTAKES_MAX:
        mistakes.append(error)
    return refusal(Status.ABORTED, f"the fake Modal made a mistake at {name}: {error!r}")


class Wire:
    """One endpoint: hands every call to ``answer`` with its name, request and metadata."""

    def __init__(self, answer: Answering) -> None:
        self._answer = answer

    def __mapping__(self) -> Mapping[str, Handler]:
        """What grpclib asks a service for."""
        return {
            path: Handler(self._serving(name), cardinality, request, reply)
            for path, (name, cardinality, request, reply) in _calls().items()
        }

    def _serving(self, name: str) -> Callable[[Stream[Any, Any]], Awaitable[None]]:
        async def serve(stream: Stream[Any, Any]) -> None:
            request = await stream.recv_message()
            metadata = {
                key: value
                for key, value in (stream.metadata or {}).items()
                if isinstance(value, str)
            }
            reply = await self._answer(name, request, metadata)
            for message in [reply] if isinstance(reply, Message) else reply:
                await stream.send_message(message)

        return serve


@cache
def _calls() -> Mapping[str, tuple[str, Cardinality, type[Message], type[Message]]]:
    """Every call of the control plane, by its path on the wire."""
    service = api_pb2.DESCRIPTOR.services_by_name["ModalClient"]
    return {
        f"/{service.full_name}/{method.name}": (
            method.name,
            _CARDINALITY[method.client_streaming, method.server_streaming],
            GetMessageClass(method.input_type),
            GetMessageClass(method.output_type),
        )
        for method in service.methods
    }
