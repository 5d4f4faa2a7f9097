"""A request as handlers see it, the table of endpoints, and the log of requests."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from nightkiln.testing.vast_market.fault_kinds import Play
from nightkiln.testing.vast_market.keys import NOBODY, Caller
from nightkiln.testing.vast_market.replies import Refused, Reply

BODY_BYTES_MAX = 1_000_000
REQUESTS_MAX = 200_000  # that are remembered


@dataclass(frozen=True, slots=True)
class Call:
    """One request."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Any  # JSON; None: none
    numbers: tuple[int, ...] = ()  # that the path names
    caller: Caller = NOBODY
    plays: tuple[Play, ...] = ()  # faults that strike it

    @property
    def fields(self) -> dict[str, Any]:
        """The body where it must be an object."""
        if self.body is None:
            return {}
        if not isinstance(self.body, dict):
            raise Refused(400, "invalid_args", "the body is no object")
        return self.body

    def parameter(self, name: str) -> Any:
        """A JSON value in the query; None: it is not there."""
        text = self.query.get(name)
        if text is None:
            return None
        try:
            return json.loads(text)
        except ValueError:
            return text


Handler: TypeAlias = Callable[[Call], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One call that the service knows."""

    name: str
    method: str
    pattern: re.Pattern[str]
    permission: str | None  # None: open to everybody
    limit: str | None  # name of its rate limit
    handler: Handler
    is_for_containers: bool = False  # with their own key, for themselves


@dataclass(frozen=True, slots=True)
class Request:
    """What the market remembers of a request."""

    at_s: float  # epoch seconds
    method: str
    url: str  # path and query as they came
    endpoint: str
    limit: str | None
    who: str
    body: Any
    status: int  # 0: the connection was broken off


def read_body(content: bytes) -> Any:
    """The JSON of a body, also of a GET's."""
    if not content.strip():
        return None
    try:
        return json.loads(content)
    except ValueError:
        raise Refused(400, "invalid_args", "the body is no JSON") from None


def normal(path: str) -> str:
    """One slash for several, and one at the end, as the service forgives."""
    return re.sub(r"/+", "/", path + "/")
