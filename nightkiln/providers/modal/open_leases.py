"""Leases of which calls may still run, by what was written down: those of dead processes, too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from decimal import Decimal

from nightkiln.core.model import LeaseId
from nightkiln.ports.provider import Billed
from nightkiln.providers.modal.calls import Call, OpenCalls
from nightkiln.providers.modal.desk import Desk, Slot
from nightkiln.providers.modal.errors import ModalFailed
from nightkiln.providers.modal.offers import HOUR_S
from nightkiln.providers.modal.service import PENDING, ModalService
from nightkiln.providers.modal.terms import ModalTerms

KEPT_S = 7 * 86400.0  # then the service has forgotten a result, and nobody can want it
AT_ONCE_MAX = 16
CENT_PARTS = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class OpenLeases:
    """What the state folder knows, asked of the service call by call."""

    service: ModalService
    calls: OpenCalls
    terms: ModalTerms
    clock: Callable[[], float]

    async def cancel(self, desk: Desk, lease_id: LeaseId, slot: Slot | None) -> None:
        """End every call of a lease, container and all, and see that it is over.

        Raises:
            ModalFailed: nobody confirms it for one of them; the others are ended.
        """
        written = await asyncio.to_thread(self.calls.all)
        mine = {call.call_id: call for call in written if call.lease_id == lease_id}
        if slot is not None:
            mine |= slot.open
        if not mine:
            return
        turn = asyncio.Semaphore(AT_ONCE_MAX)

        async def end(call: Call) -> None:
            async with turn:
                await desk.cancel(slot, call, ends_container=True)

        ends = await asyncio.gather(*map(end, mine.values()), return_exceptions=True)
        failed = [error for error in ends if isinstance(error, BaseException)]
        if failed:
            raise failed[0]

    async def left_by_others(self, mine: Container[LeaseId]) -> list[Billed]:
        """Leases of no living slot here that have calls which are not over.

        Raises:
            ModalFailed: the service did not say.
        """
        written = await asyncio.to_thread(self.calls.all)
        others = [call for call in written if call.lease_id not in mine]
        if not others:
            return []
        is_running = await self._are_running(others)
        doing = await self._doing() if any(is_running) else ""
        found: dict[LeaseId, list[Call]] = {}
        for call, runs in zip(others, is_running, strict=True):
            if runs:
                found.setdefault(call.lease_id, []).append(call)
            elif self.clock() - call.submitted_s > KEPT_S:
                await asyncio.to_thread(self.calls.closed, call.call_id)
        return [self._row(lease_id, calls, doing) for lease_id, calls in found.items()]

    async def _doing(self) -> str:
        """What the app itself says that it does; for people, since other pools are not in it."""
        try:
            stats = await self.service.stats()
        except ModalFailed as error:
            return f"what the app does is not known: {error.kind}"
        return f"{stats.containers} containers, {stats.running} at work, {stats.backlog} wait"

    async def _are_running(self, calls: Sequence[Call]) -> list[bool]:
        """Which calls wait or run. Each is asked itself: nothing else knows it for sure."""
        turn = asyncio.Semaphore(AT_ONCE_MAX)

        async def is_running(call: Call) -> bool:
            async with turn:
                try:
                    return await self.service.result(call.call_id, wait_s=0) is PENDING
                except ModalFailed as error:
                    if not error.is_over:
                        raise
                    return False

        return list(await asyncio.gather(*map(is_running, calls)))

    def _row(self, lease_id: LeaseId, calls: Sequence[Call], doing: str) -> Billed:
        usd_per_hour = max(call.usd_per_s for call in calls) * HOUR_S
        return Billed(
            lease_id=lease_id,
            fleet=self.terms.fleet,
            contract=calls[0].call_id,
            usd_per_hour=usd_per_hour.quantize(CENT_PARTS),
            since_s=min(call.submitted_s for call in calls),
            status=f"{len(calls)} calls open; {doing}",
            gpu=next((call.gpu for call in calls if call.gpu), "unknown"),
        )
