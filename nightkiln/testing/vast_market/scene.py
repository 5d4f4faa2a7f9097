"""A night at the simulated market as a whole: real SDK, real SSH, real stores, a fast story.

::

    async with VastScene(folder) as scene:
        outcome = await scene.run()
        assert await scene.broken() == []
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nightkiln.core.model import Usd
from nightkiln.night import Outcome, StopSwitch
from nightkiln.ports.observer import Observer
from nightkiln.testing.kills import ended
from nightkiln.testing.market import Night
from nightkiln.testing.promises import broken_promises as broken_in_store
from nightkiln.testing.samples import write_catalog
from nightkiln.testing.vast_market.controller import BATCH, Controller
from nightkiln.testing.vast_market.invariants import broken_promises
from nightkiln.testing.vast_market.rules import Rules
from nightkiln.testing.vast_market.samples import quiet_night
from nightkiln.testing.vast_market.server import VastMarket
from nightkiln.testing.vast_market.ssh_body import SshBodies
from nightkiln.testing.waiting import until
from nightkiln.wiring import open_store

SPEED = 60.0  # of the story; bills are by the wall
HURRY = 0.02  # of the service's waits between calls, on both sides
GRACE_S = 5.0  # after a night, until what was destroyed is gone


def _usual_rules() -> Rules:
    return Rules(speed=SPEED, limits_scale=HURRY)


@dataclass(slots=True)
class VastScene:
    """One catalog, one store, one account; runs come and go."""

    folder: Path
    jobs: int = 12
    rules: Rules = field(default_factory=_usual_rules)
    night: Night = field(default_factory=quiet_night)
    catalog: Mapping[str, Any] = field(default_factory=dict)  # keys of catalog.yaml
    leases_max: int = 3
    budget: Usd = Decimal(5)
    deadman_s: float = 30.0
    by: str = ""  # deadline, as the setting
    rows: Sequence[Mapping[str, Any]] = ()  # of the catalog, as many as ``jobs``; else made up
    options: Sequence[str] = ()  # of each machine's stand-in ComfyUI
    store: str = ""  # where it is; empty: in ``folder``
    more: Mapping[str, str] = field(default_factory=dict)  # of every run's settings
    comfy: Sequence[str] | None = None  # command of a real ComfyUI, as ``SshBodies`` takes it
    said: io.StringIO = field(default_factory=io.StringIO)
    _market: VastMarket | None = None
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> Self:
        keys = {"environment": {}, **self.catalog}
        rows = self.rows or self.jobs
        await asyncio.to_thread(write_catalog, self.folder / "catalog", rows, **keys)
        bodies = await self._stack.enter_async_context(
            SshBodies(self.folder / "machines", comfy=self.comfy, options=self.options)
        )
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
    def controller(self) -> Controller:
        """One run, not yet begun."""
        return Controller(**self._of_every_controller())

    def _of_every_controller(self) -> dict[str, Any]:
        """What a run is told, whatever else it may rent from."""
        return {
            "folder": str(self.folder),
            "url": self.market.url,
            "key": self.market.key,
            "pace": self.rules.limits_scale,
            "budget": self.budget,
            "leases_max": self.leases_max,
            "deadman_s": self.deadman_s,
            "by": self.by,
            "speed": self.rules.speed,
            "store": self.store,
            "more": self.more,
        }

    async def run(
        self, *, switch: StopSwitch | None = None, observer: Observer | None = None
    ) -> Outcome:
        """One run of the batch in this process, to its end."""
        return await self.controller.run(self.said, switch=switch, observer=observer)

    async def run_apart(self, disk: str = "") -> int:
        """One run in a process of its own; its exit status, negative for a signal."""
        status, said = await ended(replace(self.controller, disk=disk).start())
        self.said.write(said)
        return status

    def told(self) -> str:
        """What people were told, without the ticking."""
        lines = self.said.getvalue().splitlines()
        return "\n".join(line for line in lines if '"event": "progress"' not in line)

    def billed(self) -> Sequence[str]:
        """Labels of what costs money now."""
        return [str(row["label"]) for row in self.market.machines() if row["is_billed"]]

    def _broken_in_store(self) -> list[str]:
        store = open_store(self.controller.settings)
        return broken_in_store(store, BATCH, jobs=self.jobs)

    async def broken(self, *, grace_s: float = GRACE_S) -> list[str]:
        """What of all that is promised does not hold, of the market and of the store."""
        with suppress(TimeoutError):  # then it is among what does not hold
            await until(lambda: not self.billed(), within_s=grace_s)
        market = broken_promises(self.market.truth(), budget=self.budget)
        store = await asyncio.to_thread(self._broken_in_store)
        return [*market, *store]
