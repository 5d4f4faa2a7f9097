"""A night at the simulated market, as a whole: real SDK, real SSH, real stores, a fast story.

::

    async with VastScene(folder, jobs=12) as scene:
        outcome = await scene.run()
        assert scene.broken() == []
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nightkiln.core.model import Usd
from nightkiln.core.story import Opening
from nightkiln.core.terms import Rules as Figures
from nightkiln.gate import unquoted
from nightkiln.machine.goods import Goods
from nightkiln.machine.scripts import provision_program
from nightkiln.machine.stay import ArrivalLimits, LinkLimits
from nightkiln.night import Outcome, StopSwitch
from nightkiln.observers import JsonLines
from nightkiln.providers.vast import Limits, VastProvider, VastTerms
from nightkiln.settings import Settings
from nightkiln.testing.market import Night
from nightkiln.testing.promises import broken_promises as broken_in_store
from nightkiln.testing.samples import write_catalog
from nightkiln.testing.vast_market.invariants import broken_promises
from nightkiln.testing.vast_market.rules import Rules
from nightkiln.testing.vast_market.samples import quiet_night
from nightkiln.testing.vast_market.server import VastMarket
from nightkiln.testing.vast_market.ssh_body import SshBodies
from nightkiln.wiring import Request, chosen_catalog, run_batch

BATCH = "night"
SPEED = 60.0  # of the story; bills are by the wall
HURRY = 0.02  # of the service's waits between calls, on both sides
GRACE_S = 5.0  # after a night, until what was destroyed is gone
BUDGET = Decimal(5)

# What waits for the market's minutes in a real night waits for seconds here.
FIGURES = Figures(
    plan_every_s=1.0,
    offers_every_s=1.0,
    swap_every_s=30.0,
    boot_extra_s=15.0,
    boot_s_max=40.0,
    last_s=5.0,
    gap_s=5.0,
    gap_s_max=15.0,
    job_limit_s_min=5.0,
)
LIMITS = Limits(
    answer_s=3.0,
    list_s=10.0,
    search_s=10.0,
    release_s=20.0,
    ambiguous_s=15.0,
    farewell_s=15.0,
    appear_s=5.0,
    destroy_again_s=1.0,
    offline_s=3.0,
    scheduling_s=3.0,
    stopping_s=2.0,
)
ARRIVAL = ArrivalLimits(
    armed_s_max=10.0,
    link=LinkLimits(
        connect_s_max=5.0, retry_s=0.2, broken_s=8.0, reconnect_s_max=8.0, keepalive_s=1.0
    ),
)


@dataclass(slots=True)
class VastScene:
    """One catalog, one store, one account; runs come and go."""

    folder: Path
    jobs: int = 12
    rules: Rules = field(default_factory=lambda: Rules(speed=SPEED, limits_scale=HURRY))
    night: Night = field(default_factory=quiet_night)
    models: Sequence[dict[str, Any]] = ()
    leases_max: int = 3
    budget: Usd = BUDGET
    deadman_s: float = 30.0
    figures: Figures = FIGURES
    said: io.StringIO = field(default_factory=io.StringIO)
    _market: VastMarket | None = None
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> Self:
        environment = {"models": [dict(model) for model in self.models]}
        write_catalog(self.folder / "catalog", self.jobs, environment=environment)
        bodies = await self._stack.enter_async_context(SshBodies(self.folder / "machines"))
        market = VastMarket(self.night, rules=self.rules, bodies=bodies)
        self._market = await self._stack.enter_async_context(market)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    @property
    def market(self) -> VastMarket:
        assert self._market is not None, "enter the scene first"
        return self._market

    @property
    def store(self) -> Path:
        """Where the results go."""
        return self.folder / "store"

    @property
    def state(self) -> Path:
        """The user's state folder."""
        return self.folder / "state"

    @property
    def terms(self) -> VastTerms:
        """How this scene's account is used."""
        return VastTerms(
            url=self.market.url,
            startup_s=60.0,
            deadman_s=self.deadman_s,
            poll_s=0.3,
            limits=replace(LIMITS, pace=self.rules.limits_scale),
        )

    def provider(self, *, goods: Goods | None = None) -> VastProvider:
        """The account, as a run uses it."""
        return VastProvider(
            self.market.key, self.terms, state=self.state, goods=goods, arrival=ARRIVAL
        )

    async def run(self, *, switch: StopSwitch | None = None, name: str = BATCH) -> Outcome:
        """One run of the batch in this process, to its end."""
        settings = Settings(
            store=str(self.store),
            state=str(self.state),
            budget=self.budget,
            release_s=LIMITS.release_s,
        )
        catalog = chosen_catalog(self.folder / "catalog")
        goods = None
        if self.models:
            goods = Goods.of(catalog.environment, program=provision_program())
        provider = self.provider(goods=goods)
        return await run_batch(
            Request(catalog, name=name, leases_max=self.leases_max),
            settings,
            JsonLines(self.said),
            switch=switch,
            rents_from={provider.name: provider},
            opens=self._hurried,
            gate=unquoted,
        )

    def _hurried(self, opening: Opening) -> Opening:
        return replace(opening, terms=replace(opening.terms, rules=self.figures))

    def told(self) -> str:
        """What people were told, without the ticking."""
        lines = self.said.getvalue().splitlines()
        return "\n".join(line for line in lines if '"event": "progress"' not in line)

    async def broken(self, *, grace_s: float = GRACE_S, name: str = BATCH) -> list[str]:
        """What of all that is promised does not hold, of the market and of the store."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + grace_s
        while any(row["is_billed"] for row in self.market.machines()) and loop.time() < until_s:
            await asyncio.sleep(0.1)
        market = broken_promises(self.market.truth(), budget=self.budget)
        store = await asyncio.to_thread(broken_in_store, self.store, name, jobs=self.jobs)
        return [*market, *store]
