"""``/__sim/``: the truth about the market, and its strings to pull. Open to this computer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from nightkiln.core.errors import BadInput
from nightkiln.core.model import Kind
from nightkiln.testing.market import Boot, Stretch
from nightkiln.testing.vast_market.calls import Call, Endpoint, Handler
from nightkiln.testing.vast_market.contract import Contract
from nightkiln.testing.vast_market.exchange import Exchange
from nightkiln.testing.vast_market.fault_table import FAULTS
from nightkiln.testing.vast_market.faults import FaultPlan
from nightkiln.testing.vast_market.front import ADMIN, Front
from nightkiln.testing.vast_market.lifecycle import UNBEATABLE
from nightkiln.testing.vast_market.meter import exact
from nightkiln.testing.vast_market.replies import Refused, Reply, succeeded
from nightkiln.testing.vast_market.truth import ledger, machines

NEVER_S = float("inf")
SKIP_S_MAX = 10 * 365 * 86_400.0
# A machine put there by hand, where nothing else is said.
SOUND: Mapping[str, Any] = {
    "gpu": "RTX 4090",
    "region": "EU",
    "on_demand_usd_h": 0.4,
    "min_bid_usd_h": 0.2,
    "storage_usd_h": 0.008,
    "usd_per_gb_down": 0.002,
    "usd_per_gb_up": 0.002,
    "mbps_advertised": 800.0,
    "mbps_true": 700.0,
    "reliability": 0.995,
    "pull_s": 30.0,
    "load_s": 30.0,
    "s_per_job": 4.0,
    "vram_gb": 24.0,
}


class Admin:
    """Handlers over one market."""

    front: Front  # set once it is there: it knows the requests

    def __init__(self, exchange: Exchange, plan: FaultPlan) -> None:
        self._exchange, self._plan = exchange, plan

    def endpoints(self) -> list[Endpoint]:
        """The table of these calls; none is limited or remembered."""
        table: tuple[tuple[str, str, Handler], ...] = (
            ("GET", "ledger", self._ledger),
            ("GET", "machines", self._machines),
            ("GET", "requests", self._requests),
            ("GET", "offers", self._offers),
            ("POST", "offers", self._add_offers),
            ("DELETE", "offers", self._clear_offers),
            ("GET", "clock", self._clock),
            ("POST", "clock", self._skip),
            ("GET", "faults", self._faults),
            ("POST", "faults", self._add_faults),
            ("DELETE", "faults", self._clear_faults),
            ("POST", "kill", self._kill),
            ("POST", "rival", self._rival),
            ("POST", "credit", self._credit),
            ("GET", "snapshot", self._snapshot),
        )
        return [
            Endpoint(ADMIN + name, method, re.compile(f"{ADMIN}{name}/"), None, None, handler)
            for method, name, handler in table
        ]

    # The truth.

    async def _ledger(self, call: Call) -> Reply:
        del call
        return Reply(ledger(self._exchange))

    async def _machines(self, call: Call) -> Reply:
        del call
        return Reply(machines(self._exchange))

    async def _requests(self, call: Call) -> Reply:
        del call
        return Reply([asdict(one) for one in self.front.requests])

    async def _offers(self, call: Call) -> Reply:
        """What the market lists, with the truth behind it."""
        del call
        listed = self._exchange.asks.listed(self._exchange.agenda.now_s)
        return Reply([_told(asdict(ask)) for ask in listed])

    async def _clock(self, call: Call) -> Reply:
        del call
        clock = self._exchange.clock
        return Reply({"wall_s": clock.wall_s, "story_s": clock.story_s, "speed": clock.speed})

    async def _faults(self, call: Call) -> Reply:
        del call
        known = {name: fault.says for name, fault in FAULTS.items()}
        return Reply({"struck": dict(self._plan.struck), "known": known})

    async def _snapshot(self, call: Call) -> Reply:
        """Everything at once, to be kept beside a night that went wrong."""
        return Reply(
            {
                "clock": (await self._clock(call)).body,
                "credit": self._exchange.credit,
                "spent": self._exchange.spent,
                "ledger": ledger(self._exchange),
                "machines": machines(self._exchange),
                "faults": dict(self._plan.struck),
                "requests": [asdict(one) for one in self.front.requests],
            }
        )

    # The strings.

    async def _add_offers(self, call: Call) -> Reply:
        """Machines as they are described, on the market from now on."""
        described = call.body if isinstance(call.body, list) else [call.body]
        asks = [self._exchange.asks.add(self._stretch(one)) for one in described]
        return succeeded(ids=[ask.id for ask in asks], machines=[ask.machine_id for ask in asks])

    def _stretch(self, described: Any) -> Stretch:
        if not isinstance(described, dict) or not set(described) <= {*SOUND, "machine"}:
            raise Refused(400, "invalid_args", f"describe it by {', '.join(SOUND)}")
        facts = {**SOUND, **described}
        number = len(self._exchange.asks)
        machine = str(facts.pop("machine", f"by-hand-{number}"))
        return Stretch(
            ref=f"{machine}.by-hand-{number}",
            machine=machine,
            listed_s=self._exchange.agenda.now_s,
            gone_s=NEVER_S,
            is_bad_host=False,
            is_cached=True,
            boot=Boot.OK,
            boot_fails_s=NEVER_S,
            prior_s_per_job=float(facts["s_per_job"]),
            death_on_demand=NEVER_S,
            death_interruptible=NEVER_S,
            **facts,
        )

    async def _clear_offers(self, call: Call) -> Reply:
        del call
        self._exchange.asks.clear()
        return succeeded()

    async def _skip(self, call: Call) -> Reply:
        skip_s = _number(call.fields, "advance_s")
        if not 0 <= skip_s <= SKIP_S_MAX:
            raise Refused(400, "invalid_args", "advance_s cannot be that")
        self._exchange.clock.skip(skip_s)
        self._exchange.tick()
        return await self._clock(call)

    async def _add_faults(self, call: Call) -> Reply:
        try:
            self._plan.add([str(call.fields.get("fault", ""))])
        except BadInput as error:
            raise Refused(400, "invalid_args", str(error)) from error
        return succeeded()

    async def _clear_faults(self, call: Call) -> Reply:
        del call
        self._plan.clear()
        return succeeded()

    async def _kill(self, call: Call) -> Reply:
        """The host is gone for good, with all that we have there."""
        found = self._chosen(call.fields)
        for contract in found:
            self._exchange.lives.kill(contract)
        return succeeded(contracts=[contract.id for contract in found])

    async def _rival(self, call: Call) -> Reply:
        """Somebody bids so much for what we have, takes it on demand, or leaves."""
        if call.fields.get("on_demand") is True:
            usd_per_hour: float | None = UNBEATABLE
        elif call.fields.get("usd_per_hour") is None:
            usd_per_hour = None
        else:
            usd_per_hour = _number(call.fields, "usd_per_hour")
        found = [one for one in self._chosen(call.fields) if one.kind is Kind.INTERRUPTIBLE]
        for contract in found:
            self._exchange.rival(contract, usd_per_hour)
        return succeeded(contracts=[contract.id for contract in found])

    async def _credit(self, call: Call) -> Reply:
        self._exchange.credit = exact(_number(call.fields, "usd"))
        self._exchange.tick()
        return succeeded()

    def _chosen(self, fields: Mapping[str, Any]) -> list[Contract]:
        """Living contracts by ``contract``, ``machine`` or ``host``."""
        return [
            one
            for one in self._exchange.living()
            if one.id == fields.get("contract")
            or one.ask.machine_id == fields.get("machine")
            or one.ask.host_id == fields.get("host")
        ]


def _number(fields: Mapping[str, Any], name: str) -> float:
    value = fields.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise Refused(400, "invalid_args", f"{name} wants a number")
    return float(value)


def _told(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts as JSON can say them: what never happens is null."""
    told: dict[str, Any] = {}
    for name, value in facts.items():
        if isinstance(value, dict):
            told[name] = _told(value)
        elif isinstance(value, Boot):
            told[name] = value.value
        else:
            told[name] = None if value == NEVER_S else value
    return told
