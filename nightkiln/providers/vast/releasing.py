"""Destroys machines, many at once, and believes it only when they are no longer listed.

One task works for everybody who wants something gone: whoever stops waiting stops nothing. An
order to destroy that was granted and did nothing is noticed by the listing, and repeated.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from nightkiln.providers.vast.errors import Kind, VastFailed
from nightkiln.providers.vast.listing import Listing, Snapshot
from nightkiln.providers.vast.service import VastService
from nightkiln.providers.vast.terms import Limits

CHUNK = 25  # machines in one order
_HOPELESS = frozenset({Kind.NO_KEY, Kind.WRONG_KEY, Kind.NOT_ALLOWED})

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Doom:
    """One machine that is to go."""

    ordered_s: float | None = None  # by the loop's clock: its end was granted, or it was gone
    over: asyncio.Event = field(default_factory=asyncio.Event)
    failed: Exception | None = None


class Releaser:
    """Everything that is to go, and the task that sees to it."""

    def __init__(self, service: VastService, listing: Listing, limits: Limits) -> None:
        self._service, self._listing, self._limits = service, listing, limits
        self._dooms: dict[int, _Doom] = {}
        self._past: set[int] = set()  # confirmed gone
        self.ordered_s: dict[int, float] = {}  # when the end of each was granted last, loop's clock
        self._task: asyncio.Task[None] | None = None

    def doom(self, contracts: Collection[int]) -> None:
        """See to it that these machines go; returns at once. Idempotent."""
        self._past.difference_update(contracts)
        for contract in contracts:
            self._dooms.setdefault(contract, _Doom())
        if self._dooms and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._work(), name="vast releases")

    async def gone(self, contracts: Collection[int]) -> None:
        """Wait until none of these machines is listed any more.

        Raises:
            NightkilnError: that is hopeless, or cannot be found out.
        """
        left = [contract for contract in contracts if contract not in self._past]
        self.doom(left)
        dooms = [self._dooms[contract] for contract in left]
        for doom in dooms:
            await doom.over.wait()
        failed = next((doom.failed for doom in dooms if doom.failed is not None), None)
        if failed is not None:
            raise failed

    async def idle(self) -> None:
        """Wait until nothing is left to go; what became of it is not said."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def aclose(self) -> int:
        """Stop; how many machines are left that were to go."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        return len(self._dooms)

    async def _work(self) -> None:
        try:
            while self._dooms:
                await self._round()
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever waits must hear of it
            dooms, self._dooms = self._dooms, {}
            for doom in dooms.values():
                doom.failed = error
                doom.over.set()

    async def _round(self) -> None:
        """Order what is due, look, and cross off what is gone."""
        try:
            for chunk in _chunks(self._due()):
                await self._order(chunk)
            snapshot = await self._listing.after(_now_s())
            await self._cross_off(snapshot)
        except VastFailed as failed:
            if failed.kind in _HOPELESS:
                raise
            _log.warning("machines are not given back yet: %s", failed)
        if self._dooms:
            await asyncio.sleep(self._limits.look_again_s)

    def _due(self) -> list[int]:
        """Machines to order destroyed now: for the first time, or because they are still there."""
        before_s = _now_s() - self._limits.destroy_again_s
        return [
            contract
            for contract, doom in self._dooms.items()
            if doom.ordered_s is None or doom.ordered_s <= before_s
        ]

    async def _order(self, contracts: Sequence[int]) -> None:
        """One order for many; where one of them spoils it, one for each half of them."""
        was_there = True
        try:
            await self._service.destroy(contracts)
        except VastFailed as failed:
            if failed.kind not in {Kind.NO_SUCH_MACHINE, Kind.REFUSED}:
                raise
            if len(contracts) > 1:
                half = len(contracts) // 2
                await self._order(contracts[:half])
                await self._order(contracts[half:])
                return
            if failed.kind is Kind.REFUSED:
                _log.warning("machine %d is not given back yet: %s", contracts[0], failed)
                return
            was_there = False
        for contract in contracts:
            self._dooms[contract].ordered_s = now_s = _now_s()
            if was_there or contract not in self.ordered_s:
                self.ordered_s[contract] = now_s

    async def _cross_off(self, snapshot: Snapshot) -> None:
        """A machine is gone when its end was granted and it is not listed any more."""
        missing = [
            contract
            for contract, doom in self._dooms.items()
            if doom.ordered_s is not None
            and doom.ordered_s <= snapshot.begun_s
            and contract not in snapshot.rows
        ]
        # A listing without anything may be a lie; one of the machines, asked for alone, tells.
        if missing and not snapshot.rows and await self._service.exists(missing[0]):
            return
        for contract in missing:
            # A row that cannot be read may be this machine's.
            if snapshot.unreadable and await self._service.exists(contract):
                continue
            doom = self._dooms.pop(contract)
            self._past.add(contract)
            doom.over.set()


def _chunks(contracts: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(contracts), CHUNK):
        yield contracts[start : start + CHUNK]


def _now_s() -> float:
    return asyncio.get_running_loop().time()
