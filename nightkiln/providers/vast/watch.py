"""Our leases as the service lists them: found, running, ailing, missing.

One poller lists all machines of the account at each tick, and every snapshot, whoever asked for it,
is held against what we know. A listing that lacks a machine of ours proves nothing: the machine is
asked for alone, and until listing and knowledge agree nothing more is rented.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from nightkiln.core.errors import NightkilnError
from nightkiln.core.model import LeaseId, Loss
from nightkiln.ports.provider import Used
from nightkiln.providers.vast.held import Held
from nightkiln.providers.vast.judging import ailment, overcharge
from nightkiln.providers.vast.labels import read_label
from nightkiln.providers.vast.listing import Listing, Snapshot
from nightkiln.providers.vast.names import Names
from nightkiln.providers.vast.releasing import Releaser
from nightkiln.providers.vast.rows import Row
from nightkiln.providers.vast.service import VastService
from nightkiln.providers.vast.terms import VastTerms

ABSENT_MAX = 2  # listings in a row without a machine, before it is asked for alone
LISTED = "the list of machines lacks"

_log = logging.getLogger(__name__)

GPU_BILLED = frozenset({"running", "frozen"})  # container states in which the GPU costs money


class Watch:
    """The leases of this process, and what lists and ends their machines."""

    def __init__(
        self,
        service: VastService,
        terms: VastTerms,
        *,
        names: Names,
        clock: Callable[[], float],
    ) -> None:
        self.leases: dict[LeaseId, Held] = {}
        self.past: dict[LeaseId, Held] = {}
        self.ended: dict[str, LeaseId] = {}  # by label: none of them may be seen again
        self.listing = Listing(
            service, self._observe, label_of=self._label_of, list_s=terms.limits.list_s
        )
        self.releaser = Releaser(service, self.listing, terms.limits)
        self._service, self._terms, self._clock = service, terms, clock
        self._names = names
        self._held_any = asyncio.Event()

    def hold(self, held: Held) -> None:
        """Watch one more lease."""
        self.leases[held.lease.id] = held
        self._held_any.set()

    def drop(self, held: Held) -> None:
        """It has ended, confirmed."""
        self.leases.pop(held.lease.id, None)
        self.past[held.lease.id] = held
        self.ended[held.label] = held.lease.id

    def used(self, lease_id: LeaseId) -> Used | None:
        """For how long a lease has been billed so far, or was; None: unknown."""
        held = self.leases.get(lease_id, self.past.get(lease_id))
        if held is None:
            return None
        if held.contract is None:
            is_none = held.is_ending and not held.is_in_doubt
            return Used(0.0, 0.0) if is_none else None  # there never was a machine
        ordered_s = self.releaser.ordered_s.get(held.contract)
        ended_s = self._clock()
        if ordered_s is not None:
            ended_s -= asyncio.get_running_loop().time() - ordered_s
        gpu_s = held.meter.until(ended_s)
        return Used(gpu_s, max(0.0, ended_s - held.since_s)) if gpu_s is not None else None

    @property
    def suspects(self) -> list[Held]:
        """Leases whose machine the last listing lacked, though nobody has ended it."""
        return [
            held
            for held in self.leases.values()
            if held.absent and held.verdict is None and not held.is_ending
        ]

    async def disagreement(self, snapshot: Snapshot) -> str:
        """What a listing lacks that must be there; empty: nothing.

        Raises:
            VastFailed: a machine that it lacks could not be asked for.
        """
        if self.suspects:
            for held in self.suspects:
                if await self._exists(held):  # one is enough: such a list is not believed
                    return f"{LISTED} {held.label}, which exists"
            return ""
        if any(read_label(row.label) for row in snapshot.rows.values()):
            return ""
        # Nothing of ours at all: also what other runs of this user have rented is asked for.
        silent_s = self._terms.deadman_s
        expected = await asyncio.to_thread(
            self._names.expected, now_s=self._clock(), silent_s=silent_s
        )
        known = {*self.leases, *self.ended.values()}
        missing = [lease_id for lease_id in expected if lease_id not in known]
        return f"{LISTED} {missing[0]}, which must be alive" if missing else ""

    async def poll(self) -> None:
        """List at every tick while there are leases. Never returns."""
        while True:
            await self._held_any.wait()
            try:
                await self._tick()
            except NightkilnError as error:
                _log.warning("the machines could not be listed: %s", error)
                await asyncio.sleep(self._terms.poll_s)
            if not self.leases:
                self._held_any.clear()

    async def _tick(self) -> None:
        due_s = self.listing.asked_s + self._terms.poll_s
        await asyncio.sleep(max(0.0, due_s - asyncio.get_running_loop().time()))
        await self.listing.after(due_s)
        for held in self.suspects:
            if held.absent >= ABSENT_MAX and await self._exists(held):
                _log.warning("%s exists, but is not listed; nothing more is rented", held.label)

    async def _exists(self, held: Held) -> bool:
        """Ask for a machine alone; if the service knows of none, its lease is lost."""
        assert held.contract is not None
        exists = await self._service.exists(held.contract)
        if not exists:
            held.lose("the service does not know the machine any more", Loss.LOST)
        return exists

    def _label_of(self, contract: int) -> str:
        labels = (held.label for held in self.leases.values() if held.contract == contract)
        return next(labels, "")

    def _observe(self, snapshot: Snapshot) -> None:
        """Hold a snapshot against everything we know."""
        for held in self.leases.values():
            self.see(held, snapshot)
        back = {row.contract for row in snapshot.rows.values() if row.label in self.ended}
        if back:
            _log.warning("%d machines are listed again after their end", len(back))
            self.releaser.doom(back)

    def see(self, held: Held, snapshot: Snapshot) -> None:
        """Hold a snapshot against one lease."""
        rows = snapshot.labelled(held.label)
        if held.contract is None and rows:
            held.find(rows[0].contract, self._clock())
        extras = {row.contract for row in rows if row.contract != held.contract}
        if extras:  # at most one machine per label: the others cost money for nothing
            held.extras |= extras
            self.releaser.doom(extras)
        if held.contract is None:
            return
        if held.is_ending:
            if held.contract in snapshot.rows:
                self.releaser.doom([held.contract])
            return
        row = snapshot.rows.get(held.contract)
        if row is not None:
            self._seen(held, row)
        elif held.row is not None or self._clock() - held.asked_s >= self._terms.limits.appear_s:
            held.absent += 1

    def _seen(self, held: Held, row: Row) -> None:
        now_s = self._clock()
        held.absent, held.row = 0, row
        held.meter.see(now_s, is_running=row.status in GPU_BILLED, since_s=held.since_s)
        if row.is_running and held.running_s is None:
            held.running_s = now_s
        has_run = held.running_s is not None
        found = overcharge(row, held.lease.offer)
        found = found or ailment(row, self._terms.limits, has_run=has_run)
        if found is None:
            held.ailing = None
            return
        if held.ailing is None or held.ailing[0] != found:
            held.ailing = (found, now_s)
        if now_s - held.ailing[1] >= found.patience_s:
            held.lose(found.why, found.loss)
            # Never awaited: stopped, it costs storage, and may come back when nobody expects it.
            self.releaser.doom([row.contract])
