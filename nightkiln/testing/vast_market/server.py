"""Starts and stops the market as an HTTP service on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from aiohttp import web

from nightkiln.testing.market import Market, Night, shipped_market
from nightkiln.testing.vast_market.account import Account
from nightkiln.testing.vast_market.admin import Admin
from nightkiln.testing.vast_market.body import HOST, Bare, Bodies
from nightkiln.testing.vast_market.calls import BODY_BYTES_MAX, Request
from nightkiln.testing.vast_market.exchange import Exchange
from nightkiln.testing.vast_market.faults import plan_of
from nightkiln.testing.vast_market.front import Front, Heard
from nightkiln.testing.vast_market.invariants import Truth
from nightkiln.testing.vast_market.keys import Keys
from nightkiln.testing.vast_market.rentals import Rentals
from nightkiln.testing.vast_market.rules import Rules
from nightkiln.testing.vast_market.truth import LedgerRow, MachineRow, ledger, machines

HORIZON_S = 24 * 3600.0  # of the story, at speed 1
HORIZON_TIMES_MAX = 30.0  # as much longer, at the most, where the story is told faster
SHUTDOWN_S = 0.1  # for requests that are under way
BODIES_S_MAX = 30.0  # until every body has ended


def night_of(seed: int, *, market: Market | None = None, speed: float = 1.0) -> Night:
    """A night long enough for a day of the wall, or a month of the story."""
    horizon_s = HORIZON_S * min(max(1.0, speed), HORIZON_TIMES_MAX)
    drawn_from = market if market is not None else shipped_market()
    return Night(drawn_from, seed=seed, horizon_s=horizon_s)


class VastMarket:
    """The simulated market as a service that the real SDK cannot tell from the real one.

    ::

        async with VastMarket(night_of(7), rules=Rules(speed=60)) as market:
            ...  # VastAI(api_key=market.key, server_url=market.url), in a thread
        assert not [one for one in market.machines() if one["is_billed"]]
    """

    def __init__(self, night: Night, *, rules: Rules | None = None, bodies: Bodies = Bare) -> None:
        self.rules = rules if rules is not None else Rules()
        self.plan = plan_of(str(night.seed))
        self.plan.add(self.rules.faults)
        self._night, self._bodies = night, bodies
        self._exchange: Exchange | None = None
        self._front: Front | None = None
        self._keys: Keys | None = None
        self._runner: web.AppRunner | None = None
        self._task: asyncio.Task[None] | None = None
        self._happened = asyncio.Event()

    async def __aenter__(self) -> Self:
        exchange = self._exchange = Exchange(self._night, self.rules, self._bodies)
        keys = self._keys = Keys(self.rules.key, exchange)
        admin = Admin(exchange, self.plan)
        endpoints = [
            *Rentals(exchange).endpoints(),
            *Account(exchange, keys).endpoints(),
            *admin.endpoints(),
        ]
        self._front = admin.front = Front(exchange, keys, self.plan, endpoints)
        application = web.Application(client_max_size=BODY_BYTES_MAX)
        application.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(
            application, access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_S
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, self.rules.port)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        exchange.url = f"http://{host}:{port}"
        self._task = asyncio.create_task(self._keep())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._task is not None
        assert self._runner is not None
        self._task.cancel()
        [outcome] = await asyncio.gather(self._task, return_exceptions=True)
        await self._runner.cleanup()
        contracts = self.exchange.contracts.values()
        insides = [one.inside for one in contracts if one.inside is not None]
        async with asyncio.timeout(BODIES_S_MAX):
            closed = await asyncio.gather(
                *(inside.close() for inside in insides), return_exceptions=True
            )
        for trouble in (outcome, *closed):
            if isinstance(trouble, Exception):  # a mistake in the market or in a body
                raise trouble

    async def _keep(self) -> None:
        """Let things happen when nobody asks."""
        while True:
            self.exchange.tick()
            self._happened.set()
            await self.exchange.agenda.wait(self.exchange.clock)

    async def _serve(self, request: web.Request) -> web.Response:
        heard = Heard(
            method=request.method,
            path=request.path,
            url=request.raw_path,
            query=dict(request.query),
            authorization=request.headers.get("Authorization"),
            content=await request.read(),
        )
        spoken = await self.front.answer(heard)
        self._happened.set()
        if spoken.after_s > 0:
            await asyncio.sleep(spoken.after_s)
        reply = spoken.reply
        if reply is None:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        return web.Response(
            body=reply.content,
            status=reply.status,
            headers=reply.headers,
            content_type=reply.type,
        )

    # For whoever tests with it.

    @property
    def exchange(self) -> Exchange:
        """The market's state, to look into or to meddle with."""
        assert self._exchange is not None, "enter the market first"
        return self._exchange

    @property
    def front(self) -> Front:
        assert self._front is not None, "enter the market first"
        return self._front

    @property
    def url(self) -> str:
        return self.exchange.url

    @property
    def key(self) -> str:
        return self.rules.key

    @property
    def requests(self) -> Sequence[Request]:
        """Every request so far, the market's own calls excepted."""
        return tuple(self.front.requests)

    def ledger(self) -> list[LedgerRow]:
        """What every contract has truly cost."""
        self.exchange.tick()
        return ledger(self.exchange)

    def machines(self) -> list[MachineRow]:
        """Every contract there ever was, as it truly is."""
        self.exchange.tick()
        return machines(self.exchange)

    def truth(self) -> Truth:
        """Everything that a night is judged by, at this moment."""
        assert self._keys is not None, "enter the market first"
        return Truth(
            ledger=self.ledger(),
            machines=self.machines(),
            requests=self.requests,
            secrets=tuple(self._keys.secrets()),
            limits_scale=self.rules.limits_scale,
        )

    def skip(self, story_s: float) -> None:
        """Let so much of the story happen now."""
        self.exchange.clock.skip(story_s)
        self.exchange.tick()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Until that is so; asked whenever something may have happened."""
        while not holds():
            self._happened.clear()
            await self._happened.wait()

    async def settled(self) -> None:
        """Until every body has done what it was told."""
        for contract in self.exchange.contracts.values():
            if contract.inside is not None:
                await contract.inside.settled()
