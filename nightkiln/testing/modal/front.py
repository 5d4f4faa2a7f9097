"""The front desk of the control plane: who asks, what strikes, what was asked before."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import time

from google.protobuf.message import Message
from grpclib import GRPCError, Status

from nightkiln.testing.modal.fault_kinds import Forgotten, Late, Lost, Refused
from nightkiln.testing.modal.faults import FaultPlan
from nightkiln.testing.modal.wire import Answer, Reply, mistaken, refusal, unknown

REQUESTS_MAX = 200_000  # that are remembered
REPLIES_MAX = 10_000  # that are kept for a caller who repeats itself
# Calls that would do something twice. The SDK repeats a call under the same key, and the service
# answers it with what it answered first.
ONCE = frozenset({"AppPublish", "AppRollback", "FunctionMap", "FunctionPutInputs"})


@dataclass(frozen=True, slots=True)
class Request:
    """What the fake remembers of a call."""

    at_s: float  # epoch seconds
    name: str
    status: str  # "OK", else what it was refused with


class Front:
    """Answers the control plane's calls by name."""

    def __init__(
        self,
        answers: Mapping[str, Answer],
        token: tuple[str, str],
        faults: FaultPlan,
        *,
        forget: Callable[[Message], None],
        mistakes: list[Exception],
    ) -> None:
        self._answers, self._token, self._faults = answers, token, faults
        self._forget, self._mistakes = forget, mistakes
        self.requests: deque[Request] = deque(maxlen=REQUESTS_MAX)
        self._replies: OrderedDict[str, Reply] = OrderedDict()

    async def answer(self, name: str, message: Message, metadata: Mapping[str, str]) -> Reply:
        """Answer one call; what it is refused with is remembered."""
        status = "OK"
        try:
            return await self._considered(name, message, metadata)
        except GRPCError as error:
            status = error.status.name
            raise
        except Exception as error:
            status = "MISTAKE"
            raise mistaken(name, error, self._mistakes) from error
        finally:
            self.requests.append(Request(time(), name, status))

    async def _considered(self, name: str, message: Message, metadata: Mapping[str, str]) -> Reply:
        asker = (metadata.get("x-modal-token-id"), metadata.get("x-modal-token-secret"))
        if asker != self._token:
            raise refusal(Status.UNAUTHENTICATED, "Token ID/secret not recognised by the fake")
        if name not in self._answers:
            raise unknown(name)
        plays = self._faults.striking(name, "*")
        for play in plays:
            if isinstance(play, Late):
                await asyncio.sleep(play.wait_s)
            if isinstance(play, Refused):
                raise refusal(play.status, play.says)
            if isinstance(play, Forgotten):
                self._forget(message)
        reply = await self._once(name, message, metadata)
        if any(isinstance(play, Lost) for play in plays):
            raise refusal(Status.UNAVAILABLE, "the connection was lost")
        return reply

    async def _once(self, name: str, message: Message, metadata: Mapping[str, str]) -> Reply:
        key = metadata.get("x-idempotency-key")
        if name not in ONCE or key is None:
            return await self._answers[name](message)
        if key not in self._replies:
            self._replies[key] = await self._answers[name](message)
            if len(self._replies) > REPLIES_MAX:
                self._replies.popitem(last=False)
        return self._replies[key]
