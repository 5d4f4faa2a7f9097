"""Calls from hand-over to their end: written down, waited for, metered, cancelled.

Each call may be run as long as its lease lives, and never longer than a container may take to start
and a call to run: that is what it can cost at most, whatever becomes of us. After that a container
answers without rendering.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nightkiln.core.errors import RenderFailed, WorkerLost
from nightkiln.core.model import Lease, Loss, Usd
from nightkiln.providers.modal.calls import Call, OpenCalls
from nightkiln.providers.modal.contract import Asking, Reply, in_our_time, read_reply
from nightkiln.providers.modal.errors import Kind, ModalFailed, as_attempt
from nightkiln.providers.modal.facts import Deployed
from nightkiln.providers.modal.meter import Meter
from nightkiln.providers.modal.service import PENDING, ModalService
from nightkiln.providers.modal.terms import Limits

TAKE_BACK_S_MAX = 10.0  # a call whose hand-over was called off half-way
SILENCE_S_MAX = 60.0  # of the service while a result is waited for
NAP_S = 1.0  # before a service is asked again that did not answer


@dataclass(slots=True)
class Slot:
    """One lease: room for one call at a time."""

    lease: Lease
    gpu: str | None  # asked for; None: the app's own list
    usd_per_s: Usd  # at most
    expires_s: float  # epoch seconds
    open: dict[str, Call] = field(default_factory=dict)


@dataclass(slots=True)
class Desk:
    """All calls of one provider."""

    service: ModalService
    calls: OpenCalls
    meter: Meter
    asking: Asking
    deployed: Deployed
    limits: Limits
    clock: Callable[[], float]
    price: Callable[[str], Usd | None]  # USD per second of a container; None: no such GPU is known
    usd_per_s_max: Usd  # of a container of which nothing is known
    metered: set[str]  # calls whose time is counted, of all desks of a provider

    async def hand_over(
        self, slot: Slot, what: str, request: Callable[[float], Mapping[str, Any]]
    ) -> Call:
        """Spawn a call and write it down; ``request`` is given when it expires.

        Raises:
            ModalFailed: it was not spawned, as far as anybody knows.
            WorkerLost: what is left of the lease does not pay for the start that it may need.
            StoreUnusable: it could not be written down, and was cancelled.
        """
        self._check_start(slot)
        spawning = asyncio.create_task(self._spawn(slot, what, request), name=f"spawn {what}")
        try:
            return await asyncio.shield(spawning)
        except asyncio.CancelledError:
            # The call may have been taken already, and nobody else knows its id.
            with contextlib.suppress(ModalFailed, WorkerLost, TimeoutError):
                async with asyncio.timeout(TAKE_BACK_S_MAX):
                    await self.cancel(slot, await spawning, ends_container=True)
            raise

    def life_s(self, slot: Slot) -> float:
        """For how long a call that is handed over now may be run."""
        longest_s = self.deployed.startup_timeout_s + self.deployed.timeout_s
        return min(slot.expires_s - self.clock(), longest_s)

    def _check_start(self, slot: Slot) -> None:
        """Only what a lease is reserved for is begun: a start near its end would go on beyond it.

        A container of ours that waits needs no start.
        """
        now_s = self.clock()
        left_s = slot.expires_s - now_s
        if left_s < slot.lease.offer.startup_s and not self.meter.waits(slot.lease.id, now_s=now_s):
            said = f"{max(0.0, left_s):.0f} s of the lease are left, too few for another start"
            raise WorkerLost(f"modal: {said}", loss=Loss.MARKET)

    async def _spawn(
        self, slot: Slot, what: str, request: Callable[[float], Mapping[str, Any]]
    ) -> Call:
        now_s = self.clock()
        expires_s = now_s + self.life_s(slot)
        try:
            call_id = await self.service.spawn(request(expires_s), gpu=slot.gpu)
        except (ModalFailed, asyncio.CancelledError) as error:
            # Somewhere a call may run to its end that nobody can name.
            if not isinstance(error, ModalFailed) or error.is_ambiguous:
                self.meter.unseen(
                    slot.lease.id, seconds=expires_s - now_s, now_s=now_s, usd_per_s=slot.usd_per_s
                )
            raise
        gpu = slot.gpu if slot.gpu is not None else ""
        call = Call(call_id, slot.lease.id, what, gpu, slot.usd_per_s, now_s, expires_s)
        slot.open[call_id] = call
        self.meter.handed_over(call)
        try:
            await asyncio.to_thread(self.calls.opened, call)
        except BaseException:
            await self.cancel(slot, call, ends_container=True)
            raise
        return call

    async def reply(self, slot: Slot, call: Call) -> Reply:
        """Wait for what a call returns; may be asked again.

        Raises:
            RenderFailed, WorkerLost: it returned nothing that can be used. It is over, or, where
                nobody said so (the cause is a ``ModalFailed``), still open for a release to end.
        """
        try:
            told = await self._told(slot, call)
        except ModalFailed as error:
            if error.is_over:
                self._count_lost(call)
                await self.close(slot, call)
            raise as_attempt(error) from error
        try:
            reply = self._read(told, call)
        except RenderFailed:
            self._count_lost(call)
            await self.close(slot, call)
            raise
        self._count(call, reply)
        return reply

    async def _told(self, slot: Slot, call: Call) -> Any:
        """Poll until there is something, or there will be nothing."""
        loop = asyncio.get_running_loop()
        heard_s = loop.time()
        while True:
            try:
                told = await self.service.result(call.call_id, wait_s=self.limits.poll_s)
            except ModalFailed as error:
                if not error.is_transient or loop.time() - heard_s > SILENCE_S_MAX:
                    raise
                await asyncio.sleep(min(NAP_S, self.limits.poll_s))
                continue
            heard_s = loop.time()
            if told is not PENDING:
                return told
            if self.clock() > self._ends_s(call):
                await self.cancel(slot, call, ends_container=True)
                raise ModalFailed(Kind.STOPPED, "result", said="no container answered in time")

    async def cancel(self, slot: Slot | None, call: Call, *, ends_container: bool) -> None:
        """Stop a call, and see that it is over; also one that is finished.

        Raises:
            ModalFailed: nobody confirms it.
        """
        try:
            await self.service.cancel(call.call_id, ends_container=ends_container)
        except ModalFailed as error:
            # One that the service does not know may be another workspace's, as long as it may run.
            if not error.is_over or self.clock() <= self._ends_s(call):
                raise
        over_s = asyncio.get_running_loop().time() + self.limits.over_s
        while True:
            try:
                told = await self.service.result(call.call_id, wait_s=min(1.0, self.limits.over_s))
            except ModalFailed as error:
                if not error.is_over:
                    raise
                break  # that is how a cancelled call ends
            if told is not PENDING:
                with contextlib.suppress(RenderFailed):
                    self._count(call, self._read(told, call))
                break
            if asyncio.get_running_loop().time() > over_s:
                said = f"{call.call_id} runs on"
                raise ModalFailed(Kind.UNANSWERED, "cancel", said=said)
        self._count_lost(call, with_container=ends_container)
        await self.close(slot, call)

    async def called_off(self, slot: Slot, call: Call) -> None:
        """End a call that nobody waits for any more, as far as that works; a release will see."""
        with contextlib.suppress(ModalFailed):
            await self.cancel(slot, call, ends_container=True)

    async def close(self, slot: Slot | None, call: Call) -> None:
        """It is over, and nothing of it is wanted any more."""
        if slot is not None:
            slot.open.pop(call.call_id, None)
        await asyncio.to_thread(self.calls.closed, call.call_id)

    def _ends_s(self, call: Call) -> float:
        """Then it is over, or has only waited: no start begins with it that would be answered."""
        return call.expires_s + self.deployed.startup_timeout_s

    def _read(self, told: Any, call: Call) -> Reply:
        """Raises RenderFailed: it is no reply, or none for us."""
        return in_our_time(
            read_reply(told, self.asking.digest, self.asking.contract),
            submitted_s=call.submitted_s if call.what else None,
            now_s=self.clock(),
            # It may have idled after its start, for whoever it was started for.
            boot_s_max=self.deployed.startup_timeout_s + self.meter.scaledown_s,
        )

    def _count(self, call: Call, reply: Reply) -> None:
        if call.call_id in self.metered:
            return
        self.metered.add(call.call_id)
        found = self.price(reply.gpu) if reply.gpu is not None else None
        usd_per_s = found if found is not None else call.usd_per_s
        self.meter.answered(call, reply, usd_per_s=usd_per_s, heard_s=self.clock())

    def _count_lost(self, call: Call, *, with_container: bool = True) -> None:
        if call.call_id in self.metered:
            return
        self.metered.add(call.call_id)
        self.meter.ended(call, now_s=self.clock(), with_container=with_container)
