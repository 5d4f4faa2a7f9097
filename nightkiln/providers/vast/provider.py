"""Vast.ai behind the five verbs: strangers' machines, rented by the second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from nightkiln.core.errors import OfferGone, WorkerLost
from nightkiln.core.model import Kind, Lease, LeaseId, Loss, Need, Offer
from nightkiln.ports.provider import Billed, Charge, Used
from nightkiln.ports.worker import Worker
from nightkiln.providers.vast.account import Account, account_of
from nightkiln.providers.vast.charging import billed_of, charges_of, days_around
from nightkiln.providers.vast.creating import Creating
from nightkiln.providers.vast.doing import doing, told
from nightkiln.providers.vast.ending import Ending
from nightkiln.providers.vast.errors import NAME, VastFailed
from nightkiln.providers.vast.errors import Kind as Trouble
from nightkiln.providers.vast.held import Held
from nightkiln.providers.vast.keyring import Keyring
from nightkiln.providers.vast.names import Names
from nightkiln.providers.vast.offers import Wish, query, read_offers
from nightkiln.providers.vast.orders import Order, disk_to_rent_gb
from nightkiln.providers.vast.rates import Rates
from nightkiln.providers.vast.rows import Row
from nightkiln.providers.vast.service import VastService, until_answered
from nightkiln.providers.vast.terms import VastTerms
from nightkiln.providers.vast.watch import Watch

if TYPE_CHECKING:  # asyncssh takes half a second
    from nightkiln.machine.goods import Goods
    from nightkiln.machine.stay import ArrivalLimits, Stay

CHARGE_PAGES_MAX = 1_000
CHARGES_S_MAX = 60.0  # for one page


class VastProvider:
    """Rents machines for one fleet of one account.

    ``state``: the user's state folder. ``goods``: what machines are given before they render;
    ``models_gb`` and ``results_gb`` are the room that takes on their disks. ``arrival``: what a
    machine must be to get a job; what it leaves open of CUDA and disk follows from the terms.
    """

    name = NAME
    bills = True
    can_list = True

    def __init__(
        self,
        key: str,
        terms: VastTerms,
        *,
        state: Path,
        goods: Goods | None = None,
        models_gb: float = 0.0,
        results_gb: float = 0.0,
        arrival: ArrivalLimits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is asked before the provider is entered.

        Raises:
            VastFailed: there is no key, or it cannot be one.
        """
        limits = terms.limits
        rates = Rates(state, key=key, url=terms.url, clock=clock, pace=limits.pace)
        self._service = VastService(key, url=terms.url, rates=rates, answer_s=limits.answer_s)
        self._terms, self._state, self._clock = terms, state, clock
        self._goods, self._arrival = goods, arrival
        self._models_gb, self._results_gb = models_gb, results_gb
        self._names = Names(terms.fleet, state)
        self._watch = Watch(self._service, terms, names=self._names, clock=clock)
        self._creating = Creating(self._service, self._watch, terms, clock=clock)
        self._ending = Ending(self._watch, limits)
        self._keyring = Keyring(state)
        self._poller: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"VastProvider({self._service.url!r}, fleet={self._terms.fleet!r})"

    async def __aenter__(self) -> Self:
        self._poller = asyncio.create_task(self._watch.poll(), name="vast listings")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """What is rented stays rented; what was never confirmed is looked for, and destroyed."""
        try:
            await self._ending.farewell()
        finally:
            if self._poller is not None:
                self._poller.cancel()
                with suppress(asyncio.CancelledError):
                    await self._poller
            await self._creating.aclose()
            self._service.close()
            await self._keyring.forget_unused(self._watch.leases)

    async def offers(self, need: Need, *, limit: int) -> Sequence[Offer]:
        wish = Wish(need, self._terms, self._disk_gb(need))
        rows: dict[Kind, list[Any]] = {kind: await self._search(wish, kind) for kind in self._kinds}
        return read_offers(
            rows.get(Kind.ON_DEMAND, []), rows.get(Kind.INTERRUPTIBLE, []), wish, limit=limit
        )

    @property
    def _kinds(self) -> Sequence[Kind]:
        return [k for k in (Kind.ON_DEMAND, Kind.INTERRUPTIBLE) if k in self._terms.kinds]

    async def _search(self, wish: Wish, kind: Kind) -> list[Any]:
        async def search() -> list[Any]:
            return await self._service.search(
                query(wish),
                is_bid=kind is Kind.INTERRUPTIBLE,
                storage_gb=wish.disk_gb,
                limit=self._terms.offers_max,
            )

        return await until_answered(search, within_s=self._terms.limits.search_s)

    def _disk_gb(self, need: Need) -> int:
        return disk_to_rent_gb(
            need, self._terms, models_gb=self._models_gb, results_gb=self._results_gb
        )

    async def rent(
        self, offer: Offer, lease_id: LeaseId, need: Need, *, expires_at_s: float
    ) -> Lease:
        label = self._names.label(lease_id)
        if label in self._watch.ended:
            raise OfferGone(f"{lease_id} has ended")
        held = self._watch.leases.get(lease_id)
        if held is None:
            held = Held(Lease(lease_id, offer, host=offer.machine), need, label, expires_at_s)
            self._watch.hold(held)
            self._creating.begin(held, self._order)
        held.expires_s = max(held.expires_s, expires_at_s)
        await self._creating.done(held)
        return held.lease

    async def _order(self, held: Held) -> Order:
        from nightkiln.machine.scripts import start_script

        return Order(
            offer=held.lease.offer,
            label=held.label,
            disk_gb=self._disk_gb(held.need),
            public_key=(await self._keyring.of(held.lease.id)).public,
            life_s=held.expires_s - self._clock(),
            onstart=await asyncio.to_thread(start_script),
        )

    @asynccontextmanager
    async def connect(self, lease: Lease) -> AsyncIterator[Worker]:
        from nightkiln.machine.rendering import rendering

        held = self._watch.leases.get(lease.id)
        if held is None or held.is_ending:
            raise WorkerLost(f"there is no lease {lease.id} to connect to", loss=Loss.GONE)
        held.stay = await self._stay(held, lease)
        if held.verdict is not None:  # since it was rented
            held.lose(*held.verdict)
        try:
            async with rendering(held.stay) as worker:
                yield worker
        finally:
            held.stay = None

    async def _stay(self, held: Held, lease: Lease) -> Stay:
        from nightkiln.machine.goods import Goods
        from nightkiln.machine.stay import Address, ArrivalLimits, Stay

        async def where() -> Address | None:
            address = held.row.address if held.row is not None else None
            return Address(*address) if address is not None else None

        asked = self._arrival if self._arrival is not None else ArrivalLimits()
        cuda_min, disk_gb = asked.cuda_min, asked.disk_gb
        limits = replace(
            asked,
            cuda_min=cuda_min if cuda_min is not None else self._terms.cuda_min,
            disk_gb=disk_gb if disk_gb is not None else self._disk_gb(held.need),
        )
        return Stay(
            lease=lease,
            need=held.need,
            where=where,
            keys=await self._keyring.of(lease.id),
            pin=self._state / "pins" / lease.id,
            goods=self._goods if self._goods is not None else Goods(),
            expires_s=lambda: held.expires_s,
            loading_s=held.loading_s,
            quiet_s=self._terms.deadman_s,
            limits=limits,
            tell=partial(told, held),
            clock=self._clock,
        )

    def doing(self, lease_id: LeaseId) -> str:
        """How far its start has come, in a few words."""
        held = self._watch.leases.get(lease_id)
        return doing(held) if held is not None else ""

    async def release(self, lease_ids: Sequence[LeaseId]) -> None:
        """Many at once go in a few orders; see ``releasing``."""
        leases = [self._watch.leases[one] for one in lease_ids if one in self._watch.leases]
        labels = [self._names.label(one) for one in lease_ids if one not in self._watch.leases]
        await self._ending.end(leases, labels)
        self._keyring.concern(lease_ids)
        for lease_id in lease_ids:
            # Not part of the release: it costs nothing, and names nobody.
            with suppress(OSError):
                (self._state / "pins" / lease_id).unlink(missing_ok=True)

    async def owned(self) -> Sequence[LeaseId]:
        rows = await self._rows()
        found = await asyncio.to_thread(self._leases_of, [row.label for row in rows])
        return list(dict.fromkeys(one for one in found if one is not None))

    async def billed(self) -> Sequence[Billed]:
        """Every fleet's machines. A lease of this fleet has its whole id, where that is known."""
        rows = await self._rows()
        own = await asyncio.to_thread(self._leases_of, [row.label for row in rows])
        told = [billed_of(row, lease_id) for row, lease_id in zip(rows, own, strict=True)]
        return [one for one in told if one is not None]

    def _leases_of(self, labels: Sequence[str]) -> list[LeaseId | None]:
        return [self._names.lease_id(label) for label in labels]

    async def _rows(self) -> Sequence[Row]:
        """Every machine of the account.

        Raises:
            ProviderError: the list may be short.
        """
        snapshot = await self._watch.listing.after(asyncio.get_running_loop().time())
        said = await self._watch.disagreement(snapshot)
        if snapshot.unreadable:
            said = f"{snapshot.unreadable} rows cannot be read"
        if said:
            raise VastFailed(Trouble.SERVICE, "list", said=said)
        return list(snapshot.rows.values())

    def used(self, lease_id: LeaseId) -> Used | None:
        return self._watch.used(lease_id)

    async def charges(self, *, since_s: float) -> Sequence[Charge]:
        """Bills are made by the day: what a lease has cost since the start of that UTC day."""
        from_s, to_s = days_around(since_s, self._clock())
        rows: list[Any] = []
        token: str | None = None
        for _ in range(CHARGE_PAGES_MAX):
            ask = partial(self._service.charges, from_s, to_s, token)
            answer = await until_answered(ask, within_s=CHARGES_S_MAX)
            found, token = answer.get("results"), answer.get("next_token")
            if not isinstance(found, list) or not isinstance(token, str | None):
                raise VastFailed(Trouble.SERVICE, "charges", said="an answer that makes no sense")
            rows += found
            if not token:
                return await asyncio.to_thread(charges_of, rows, self._names.lease_id)
        said = f"more than {CHARGE_PAGES_MAX} pages"
        raise VastFailed(Trouble.SERVICE, "charges", said=said)

    async def account(self) -> Account:
        """What the account can spend, and what the key may not do.

        Raises:
            VastFailed: no credit is no failure; a wrong key is.
        """
        return await account_of(self._service, now_s=self._clock())


async def account(key: str, terms: VastTerms, *, state: Path) -> Account:
    """The account behind a key, asked once.

    Raises:
        VastFailed: no key, a wrong key, or no answer; what to do is in the message.
    """
    async with VastProvider(key, terms, state=state) as provider:
        return await provider.account()
