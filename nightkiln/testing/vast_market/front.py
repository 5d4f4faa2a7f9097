"""From a request to its answer: who asks, how often, what goes wrong, and then the call itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nightkiln.testing.market.service import STORM_ADMITS
from nightkiln.testing.vast_market.calls import (
    REQUESTS_MAX,
    Call,
    Endpoint,
    Request,
    normal,
    read_body,
)
from nightkiln.testing.vast_market.exchange import Exchange
from nightkiln.testing.vast_market.fault_kinds import Afflicts, Afterwards, Altered, Hangs, Instead
from nightkiln.testing.vast_market.faults import FaultPlan
from nightkiln.testing.vast_market.keys import NOBODY, Caller, Keys
from nightkiln.testing.vast_market.limits import Limiter, too_frequent
from nightkiln.testing.vast_market.replies import Refused, Reply

AWAY = Reply("Service Unavailable", 503)
STORM_WAIT_S = 1.0
URL_CHARS_MAX = 10_000  # that are remembered of one
UNKNOWN = "unknown"
ADMIN = "/__sim/"  # calls that belong to nobody's story


@dataclass(frozen=True, slots=True)
class Heard:
    """A request as it came in."""

    method: str
    path: str
    url: str  # path and query, as they came
    query: dict[str, str]
    authorization: str | None
    content: bytes


@dataclass(frozen=True, slots=True)
class Spoken:
    """What is to be sent: None breaks the connection off, after so long."""

    reply: Reply | None
    after_s: float = 0.0


class Front:
    """Answers requests, and remembers them."""

    def __init__(
        self, exchange: Exchange, keys: Keys, plan: FaultPlan, endpoints: Sequence[Endpoint]
    ) -> None:
        rules = exchange.rules
        self.requests: deque[Request] = deque(maxlen=REQUESTS_MAX)
        self._exchange, self._keys, self._plan = exchange, keys, plan
        self._endpoints = endpoints
        self._limiter = Limiter(rules.limits_scale, rules.limit_style)
        self._heard = 0

    async def answer(self, heard: Heard) -> Spoken:
        """Everything that happens to one request."""
        self._exchange.tick()
        at_s, caller = self._exchange.clock.wall_s, NOBODY
        endpoint, call = self._find(heard)
        if endpoint is None:
            return self._unknown(heard, at_s)
        try:
            call = replace(call, body=read_body(heard.content))
            if endpoint.permission is not None:
                self._stay_away()
                caller = self._admit(heard, endpoint, call)
            refusal = self._limiter.refusal(caller.name, endpoint.limit, at_s)
            if refusal is not None:
                spoken = Spoken(refusal)
            else:
                spoken = await self._carry_out(endpoint, replace(call, caller=caller))
        except Refused as refused:
            spoken = Spoken(refused.reply)
        if not endpoint.name.startswith(ADMIN):
            self._remember(heard, endpoint, caller, at_s=at_s, body=call.body, spoken=spoken)
        return spoken

    def _unknown(self, heard: Heard, at_s: float) -> Spoken:
        spoken = Spoken(Refused(404, "not_found", heard.path).reply)
        self._remember(heard, None, NOBODY, at_s=at_s, body=None, spoken=spoken)
        return spoken

    def _find(self, heard: Heard) -> tuple[Endpoint | None, Call]:
        path = normal(heard.path)
        for endpoint in self._endpoints:
            found = endpoint.pattern.fullmatch(path) if endpoint.method == heard.method else None
            if found is not None:
                numbers = tuple(int(number) for number in found.groups())
                return endpoint, Call(heard.method, path, heard.query, None, numbers)
        return None, Call(heard.method, path, heard.query, None)

    def _stay_away(self) -> None:
        """The service's own outage and storm, where the night has one."""
        night, story_s = self._exchange.night, self._exchange.agenda.now_s
        self._heard += 1
        if night.api_outage is not None and story_s in night.api_outage:
            raise _Answered(AWAY)
        is_storm = night.api_storm is not None and story_s in night.api_storm
        if is_storm and self._heard % STORM_ADMITS != 0:
            raise _Answered(too_frequent(1.0, STORM_WAIT_S, self._exchange.rules.limit_style))

    def _admit(self, heard: Heard, endpoint: Endpoint, call: Call) -> Caller:
        caller = self._keys.caller(heard.authorization)
        if caller.contract is not None:
            caller.allow_itself(call.numbers if endpoint.is_for_containers else ())
        if endpoint.permission is not None:
            caller.allow(endpoint.permission)
        return caller

    async def _carry_out(self, endpoint: Endpoint, call: Call) -> Spoken:
        plays = tuple(self._plan.striking(endpoint.name))
        for play in plays:
            if isinstance(play, Instead):
                self._plan.spare(Afflicts)
                return Spoken(play.reply)
        try:
            reply = await endpoint.handler(replace(call, plays=plays))
        except Refused:
            self._plan.spare(Afflicts)
            raise
        for play in plays:
            match play:
                case Altered(change):
                    reply = replace(reply, body=change(reply.body))
                case Afterwards(other):
                    return Spoken(other)
                case Hangs():
                    return Spoken(None, self._exchange.rules.hang_s)
                case _:
                    continue
        return Spoken(reply)

    def _remember(
        self,
        heard: Heard,
        endpoint: Endpoint | None,
        caller: Caller,
        *,
        at_s: float,
        body: object,
        spoken: Spoken,
    ) -> None:
        self.requests.append(
            Request(
                at_s=at_s,
                method=heard.method,
                url=heard.url[:URL_CHARS_MAX],
                endpoint=endpoint.name if endpoint is not None else UNKNOWN,
                limit=endpoint.limit if endpoint is not None else None,
                who=caller.name,
                body=body,
                status=spoken.reply.status if spoken.reply is not None else 0,
            )
        )


class _Answered(Refused):
    """Said instead of anything else."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status, "", "")
        self.reply = reply
