"""Modal behind the five verbs: serverless containers, paid by the second, quick and dear.

A lease is a slot of concurrency. Renting one costs nothing; connecting to it brings a container up;
releasing it cancels what is outstanding, and its container ends when its idle window is over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count, islice
from pathlib import Path
from types import TracebackType
from typing import Self

from nightkiln.core.errors import OfferGone, RenderFailed, WorkerLost
from nightkiln.core.model import Lease, LeaseId, Loss, Need, Offer, Ticket, Usd
from nightkiln.ports.provider import Billed, Charge, Used
from nightkiln.ports.worker import Rendered
from nightkiln.providers.modal.billing import charges_of, full_hours
from nightkiln.providers.modal.calls import USAGE_KEPT_S, Call, OpenCalls
from nightkiln.providers.modal.contract import DONE, EXPIRED, TOO_LATE, WARM, Asking, refused
from nightkiln.providers.modal.desk import Desk, Slot
from nightkiln.providers.modal.errors import NAME, Kind, ModalFailed
from nightkiln.providers.modal.facts import Deployed
from nightkiln.providers.modal.meter import Meter
from nightkiln.providers.modal.offers import HOUR_S, choices, offer_of
from nightkiln.providers.modal.open_leases import CENT_PARTS, OpenLeases
from nightkiln.providers.modal.prices import Prices, class_of, dated
from nightkiln.providers.modal.recalling import recalled
from nightkiln.providers.modal.service import ModalService
from nightkiln.providers.modal.terms import ModalTerms
from nightkiln.providers.modal.worker import ModalWorker

NO_REPORT = frozenset({Kind.NOT_ALLOWED, Kind.OUTDATED, Kind.REFUSED, Kind.NOT_DEPLOYED})


class ModalProvider:
    """Slots of one app, deployed for one environment (``digest``)."""

    name = NAME
    bills = True
    can_list = False  # the SDK cannot list calls; what was written down answers

    def __init__(
        self,
        token_id: str,
        token_secret: str,
        terms: ModalTerms,
        *,
        state: Path,
        digest: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is asked before the first verb.

        Raises:
            ModalFailed: there is no token.
        """
        self._service = ModalService(token_id, token_secret, terms)
        self._terms, self._digest, self._clock = terms, digest, clock
        self._calls = OpenCalls(state / "modal")
        self._meter = Meter(
            scaledown_s=float(terms.scaledown_s),
            exit_s=terms.limits.exit_s,
            start_s=terms.limits.start_s,
            containers_max=terms.max_containers,
        )
        self._asking = Asking(digest, terms.result_bytes_max)
        self._prices, self._rates_s = dated(), -float("inf")
        self._deployed: Deployed | None = None
        self._seen_s = -float("inf")
        self._slots: dict[LeaseId, Slot] = {}
        self._past: dict[LeaseId, Offer] = {}
        self._used_numbers: set[int] = set()
        self._metered: set[str] = set()
        self._open_leases = OpenLeases(self._service, self._calls, terms, clock)

    def __repr__(self) -> str:
        return f"ModalProvider({self._terms.app!r}, {self._digest[:12]})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._service.close()

    async def ready(self) -> Deployed:
        """The app as it is deployed for this environment, seen not long ago.

        Raises:
            ModalFailed: it is not there, not for this, or nobody answers.
        """
        if self._clock() - self._seen_s > self._terms.limits.fresh_s or self._deployed is None:
            self._deployed = await self._service.deployed(self._digest)
            self._seen_s = self._clock()
        return self._deployed

    async def may_call(self) -> None:
        """See, without a container and for nothing, that the workspace may call the app.

        Raises:
            ModalFailed: it may not, or has no credit left.
        """
        await self._service.call_nothing(self._digest)

    async def todays_prices(self) -> Prices:
        """Live rates where the service gives them, else the dated file."""
        if self._clock() - self._rates_s > self._terms.limits.rates_s:
            self._rates_s = self._clock()
            try:
                rates = await self._service.rates()
            except ModalFailed:
                return self._prices  # the dated ones, or those of a few hours ago
            when = datetime.fromtimestamp(self._clock(), UTC)
            self._prices = dated().updated(rates, when=f"{when:%Y-%m-%d %H:%M} UTC")
        return self._prices

    async def offers(self, need: Need, *, limit: int) -> Sequence[Offer]:
        deployed, prices = await self.ready(), await self.todays_prices()
        free = max(0, self._terms.max_containers - len(self._slots))
        numbers = list(islice(self._fresh_numbers(), free))
        found = (
            offer_of(choice, number, deployed, self._terms)
            for choice in choices(deployed, need, prices, self._terms)
            for number in numbers
        )
        return list(islice(found, limit))

    def _fresh_numbers(self) -> Iterator[int]:
        return (number for number in count() if number not in self._used_numbers)

    async def rent(
        self, offer: Offer, lease_id: LeaseId, need: Need, *, expires_at_s: float
    ) -> Lease:
        slot = self._slots.get(lease_id)
        if slot is None:
            slot = self._slots[lease_id] = await self._slot(offer, lease_id, need, expires_at_s)
        slot.expires_s = max(slot.expires_s, expires_at_s)
        return slot.lease

    async def _slot(self, offer: Offer, lease_id: LeaseId, need: Need, expires_at_s: float) -> Slot:
        """Nobody else is asked: a slot is ours by the app's own limit.

        Raises:
            OfferGone: it was never offered, is taken, or the app is not what it was.
        """
        deployed = await self.ready()
        found = choices(deployed, need, await self.todays_prices(), self._terms)
        gpu, _, number = offer.ref.rpartition("-")
        choice = next((one for one in found if one.gpu == gpu and number.isdecimal()), None)
        is_free = len(self._slots) < self._terms.max_containers
        if choice is None or not is_free or int(number) in self._used_numbers:
            raise OfferGone(f"{offer.ref}: no such slot is free")
        self._used_numbers.add(int(number))
        shown = f"v{deployed.version}" if deployed.version is not None else "v?"
        lease = Lease(lease_id, offer, host=f"{self._terms.app} {shown} {offer.ref}")
        return Slot(lease, choice.asked, choice.usd_per_s, expires_at_s)

    @asynccontextmanager
    async def connect(self, lease: Lease) -> AsyncIterator[ModalWorker]:
        slot = self._slots.get(lease.id)
        if slot is None or slot.expires_s <= self._clock():
            raise WorkerLost(f"there is no lease {lease.id} to connect to", loss=Loss.GONE)
        desk = self._desk(await self.ready())
        gpu = await self._warm(desk, slot, lease.offer)
        yield ModalWorker(desk, slot, gpu=gpu)

    async def _warm(self, desk: Desk, slot: Slot, offer: Offer) -> str:
        """Have a container come up, and ComfyUI answer in it; the name of its GPU.

        Raises:
            WorkerLost: it did not.
        """
        call: Call | None = None
        asking = desk.asking
        try:
            async with asyncio.timeout(offer.startup_s):
                call = await desk.hand_over(slot, WARM, lambda at: asking.warm(expires_at_s=at))
                reply = await desk.reply(slot, call)
        except TimeoutError:
            said = "not ready within its start-up time: waiting for a container"
            raise WorkerLost(said, loss=Loss.SLOW) from None
        except (RenderFailed, WorkerLost) as error:
            loss = error.loss if isinstance(error, WorkerLost) else Loss.LOST
            loss = Loss.STARTUP if loss is Loss.LOST else loss
            raise WorkerLost(str(error), loss=loss) from error
        else:
            await desk.close(slot, call)
        finally:
            if call is not None and call.call_id in slot.open:
                await desk.called_off(slot, call)
        if reply.status == EXPIRED:
            raise WorkerLost(f"modal: {TOO_LATE}", loss=Loss.SLOW)
        if reply.status != DONE:
            raise WorkerLost(refused(reply), loss=Loss.STARTUP)
        return reply.gpu if reply.gpu is not None else offer.gpu

    def _desk(self, deployed: Deployed | None = None) -> Desk:
        """Without the app as it is deployed, calls can still be ended and fetched."""
        if deployed is None:
            deployed = Deployed(None, (), self._terms.timeout_s, self._terms.startup_timeout_s)
        return Desk(
            service=self._service,
            calls=self._calls,
            meter=self._meter,
            asking=replace(self._asking, contract=deployed.contract),
            deployed=deployed,
            limits=self._terms.limits,
            clock=self._clock,
            price=self._price,
            usd_per_s_max=self._prices.usd_per_s(
                "", cpu=self._terms.cpu, memory_mib=self._terms.memory_mib
            ),
            metered=self._metered,
        )

    def _price(self, gpu: str) -> Usd | None:
        terms = self._terms
        if class_of(gpu) not in self._prices.gpus:
            return None
        return self._prices.usd_per_s(gpu, cpu=terms.cpu, memory_mib=terms.memory_mib)

    async def release(self, lease_ids: Sequence[LeaseId]) -> None:
        """Cancel what is outstanding, also of dead processes, and see that it is over."""
        for lease_id in lease_ids:
            slot = self._slots.get(lease_id)
            await self._open_leases.cancel(self._desk(self._deployed), lease_id, slot)
            if slot is not None:
                self._past[lease_id] = slot.lease.offer
                del self._slots[lease_id]
                hours = self._meter.by_hour(lease_id, now_s=float("inf"))
                await asyncio.to_thread(self._calls.keep_usage, lease_id, hours)

    async def owned(self) -> Sequence[LeaseId]:
        return list(dict.fromkeys(one.lease_id for one in await self.billed()))

    async def billed(self) -> Sequence[Billed]:
        """Our own leases, and those of whose calls nobody has seen the end."""
        now_s = self._clock()
        ours = [slot for slot in self._slots.values() if slot.expires_s > now_s or slot.open]
        left = await self._open_leases.left_by_others(set(self._slots))
        return [self._row(slot) for slot in ours] + left

    def _row(self, slot: Slot) -> Billed:
        calls = list(slot.open.values())
        return Billed(
            lease_id=slot.lease.id,
            fleet=self._terms.fleet,
            contract=calls[0].call_id if calls else slot.lease.offer.ref,
            usd_per_hour=(slot.usd_per_s * HOUR_S).quantize(CENT_PARTS),
            since_s=min((call.submitted_s for call in calls), default=None),
            status=f"{len(calls)} calls open",
            gpu=slot.lease.offer.gpu,
        )

    def used(self, lease_id: LeaseId) -> Used | None:
        """Seconds at the lease's own price, of whichever containers it has used."""
        slot = self._slots.get(lease_id)
        offer = slot.lease.offer if slot is not None else self._past.get(lease_id)
        if offer is None:
            return None
        usd = self._meter.usd(lease_id, now_s=self._clock() if slot is not None else float("inf"))
        return Used(float(usd * HOUR_S / offer.usd_per_hour), 0.0)

    async def charges(self, *, since_s: float) -> Sequence[Charge]:
        """By the billing report, for full hours; nothing on plans without one."""
        start, end = full_hours(since_s, self._clock())
        if start >= end:
            return []
        await asyncio.to_thread(self._calls.forget_usage, before_s=self._clock() - USAGE_KEPT_S)
        try:
            items = await self._service.report(start, end)
        except ModalFailed as error:
            if error.kind in NO_REPORT:
                return []
            raise
        usage = await asyncio.to_thread(self._calls.usage)
        now_s = self._clock()
        usage.update({one: dict(self._meter.by_hour(one, now_s=now_s)) for one in self._slots})
        return charges_of(items, usage, app=self._terms.app)

    async def recall(self, ticket: Ticket, *, within_s: float) -> Rendered | None:
        """What a call of an earlier process has made; it is paid for. None: nothing.

        A call that is not over in time is cancelled.

        Raises:
            ModalFailed: nobody answers.
        """
        return await recalled(self._desk(self._deployed), self._calls, ticket, within_s=within_s)
