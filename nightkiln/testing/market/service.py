"""What the fronts of a simulated night have in common: leases, faults on demand, bills."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from nightkiln.core.errors import OfferGone, ProviderError, WorkerLost
from nightkiln.core.model import JobId, Lease, LeaseId, Loss, Need, Offer
from nightkiln.ports.provider import Billed
from nightkiln.testing.market.billing import Bill, Usage, listed
from nightkiln.testing.market.night import AttemptTruth, Window
from nightkiln.testing.market.stage import Stage
from nightkiln.testing.market.worker import Life, SimulatedWorker

STORM_ADMITS = 5  # in a storm of 429 one call in so many gets through


@dataclass(frozen=True, slots=True)
class Terms:
    """What will become of a lease, in seconds since the night began."""

    ready_s: float  # it renders; infinite: it never does
    broken_s: float  # its start fails; infinite: it does not
    death_s: float  # it is taken away; infinite: never
    detect_s: float  # from the death until it is noticed
    offline: Window | None
    truth: Callable[[JobId, int], AttemptTruth]  # of a job's n-th try there
    loading_s: float = 0.0  # of the start, with the GPU not fully billed


@dataclass(slots=True, eq=False)
class Rental:
    """One lease, as the service knows it."""

    lease: Lease
    terms: Terms
    rented_s: float
    expires_s: float
    release_failures: int
    released_s: float | None = None
    jobs: int = 0  # of workers that are closed
    worker: SimulatedWorker | None = None
    expiry: asyncio.TimerHandle | None = None

    @property
    def jobs_rendered(self) -> int:
        return self.jobs + (self.worker.rendered if self.worker is not None else 0)

    def end(self, now_s: float, reason: str) -> None:
        """Stop the machine and the meter."""
        self.released_s = now_s
        if self.worker is not None:
            self.worker.lose(reason)
        if self.expiry is not None:
            self.expiry.cancel()


class SimulatedService(ABC):
    """A ``Provider`` in memory, played over the running loop's time.

    ``lump``: how many jobs each job handed to it stands for.
    """

    bills = True
    can_list = True

    def __init__(self, name: str, *, lump: int = 1, stage: Stage | None = None) -> None:
        assert lump >= 1
        self.name, self.lump = name, lump
        self._stage = stage if stage is not None else Stage()
        self._rentals: dict[LeaseId, Rental] = {}
        self._calls = 0
        self._lost_replies = self._stage.faults.lost_replies
        self._starts_s = self._stage.starts_s

    async def __aenter__(self) -> Self:
        if self._starts_s is None:
            self._starts_s = asyncio.get_running_loop().time()
        return self

    async def __aexit__(  # noqa: B027 - there is nothing to undo
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing: what is rented stays rented, as with any service."""

    @property
    def now_s(self) -> float:
        """Seconds since the night began."""
        assert self._starts_s is not None, "enter the provider first"
        return asyncio.get_running_loop().time() - self._starts_s

    # What differs.

    @abstractmethod
    def _listing(self, now_s: float) -> Sequence[Offer]:
        """What could be rented now, cheapest hour first."""

    @abstractmethod
    def _terms(self, offer: Offer, now_s: float) -> Terms:
        """The fate of a lease that begins now.

        Raises:
            OfferGone: it cannot be had, or not at that price.
        """

    @abstractmethod
    def _bill(self, rental: Rental, usage: Usage) -> Bill:
        """What it has cost."""

    def _troubles(self) -> tuple[Sequence[Window], Sequence[Window]]:
        """Outages and storms that the night brings to this service."""
        return (), ()

    # The verbs.

    async def offers(self, need: Need, *, limit: int) -> Sequence[Offer]:
        self._answer("offers")
        fitting = [offer for offer in self._listing(self.now_s) if _fits(offer, need)][:limit]
        for index, usd in enumerate(self._stage.faults.nonsense_prices[: len(fitting)]):
            fitting[index] = replace(fitting[index], usd_per_hour=usd)
        return fitting

    async def rent(
        self, offer: Offer, lease_id: LeaseId, need: Need, *, expires_at_s: float
    ) -> Lease:
        del need  # what is offered was asked for
        self._answer("rent")
        rental = self._rentals.get(lease_id)
        if rental is None:
            rental = self._rent(offer, lease_id, expires_at_s)
            if self._lost_replies > 0:
                self._lost_replies -= 1
                raise ProviderError("the answer to a rental was lost", provider=self.name)
        elif rental.released_s is None and expires_at_s > rental.expires_s:
            rental.expires_s = expires_at_s
            self._set_expiry(rental)
        return rental.lease

    def _rent(self, offer: Offer, lease_id: LeaseId, expires_at_s: float) -> Rental:
        now_s = self.now_s
        lease = Lease(lease_id, offer, host=offer.machine)
        terms = self._terms(offer, now_s)
        failures = self._stage.faults.release_failures
        rental = Rental(lease, terms, now_s, expires_at_s, failures)
        self._rentals[lease_id] = rental
        self._set_expiry(rental)
        return rental

    async def extend(self, lease_id: LeaseId, *, expires_at_s: float) -> None:
        """Let a lease live longer."""
        self._answer("extend")
        rental = self._rentals.get(lease_id)
        if rental is None or rental.released_s is not None:
            raise WorkerLost(f"there is no lease {lease_id} to extend")
        rental.expires_s = max(rental.expires_s, expires_at_s)
        self._set_expiry(rental)

    @asynccontextmanager
    async def connect(self, lease: Lease) -> AsyncIterator[SimulatedWorker]:
        rental = self._rentals.get(lease.id)
        if rental is None or rental.released_s is not None:
            raise WorkerLost(f"there is no lease {lease.id} to connect to")
        await self._come_up(rental, lease.offer.startup_s)
        worker = self._worker(rental)
        try:
            yield worker
        finally:
            worker.lose("the connection is closed")
            rental.jobs += worker.rendered
            rental.worker = None

    def _worker(self, rental: Rental) -> SimulatedWorker:
        offer, terms, starts_s = rental.lease.offer, rental.terms, self._starts_s
        assert starts_s is not None
        worker = SimulatedWorker(
            rental.lease.id,
            offer.gpu,
            terms.truth,
            picture=self._stage.picture,
            epoch_s=self._stage.epoch_s,
            loading_s=terms.loading_s,
        )
        offline = terms.offline
        if offline is not None:
            offline = Window(offline.from_s + starts_s, offline.to_s + starts_s)
        worker.live(Life(terms.death_s + starts_s, terms.detect_s, offline))
        rental.worker = worker
        return worker

    async def _come_up(self, rental: Rental, startup_s: float) -> None:
        """Wait until it renders, or until it is clear that it does not."""
        terms, now_s = rental.terms, self.now_s
        taken_s = terms.death_s + terms.detect_s
        when_s, said, loss = min(
            (terms.ready_s, "", Loss.GONE),
            (terms.broken_s, "the container could not be started", Loss.STARTUP),
            (taken_s, "the machine was taken away while it started", Loss.MARKET),
            (now_s + startup_s, f"nothing answered within {startup_s:.0f} s", Loss.SLOW),
        )
        if when_s == float("inf"):
            await asyncio.get_running_loop().create_future()
        if when_s > now_s:
            await asyncio.sleep(when_s - now_s)
        if rental.released_s is not None:
            said, loss = "the lease ended while it started", Loss.MARKET
        if said:
            raise WorkerLost(said, loss=loss)

    async def release(self, lease_ids: Sequence[LeaseId]) -> None:
        self._answer("release")
        for lease_id in lease_ids:
            rental = self._rentals.get(lease_id)
            if rental is None or rental.released_s is not None:
                continue
            if rental.release_failures > 0:
                rental.release_failures -= 1
                raise ProviderError(f"{lease_id} could not be released", provider=self.name)
            rental.end(self.now_s, "the lease was released")

    async def owned(self) -> Sequence[LeaseId]:
        self._answer("owned")
        return [lease_id for lease_id, one in self._rentals.items() if one.released_s is None]

    async def billed(self) -> Sequence[Billed]:
        self._answer("billed")
        begin_s = asyncio.get_running_loop().time() - self.now_s + self._stage.epoch_s
        ours = [one for one in self._rentals.values() if one.released_s is None]
        return [listed(one.lease, self._stage.fleet, begin_s + one.rented_s) for one in ours]

    # The truth, for whoever judges a night.

    def bill(self, lease_id: LeaseId) -> Bill:
        """What one lease has cost so far."""
        rental = self._rentals[lease_id]
        is_released = rental.released_s is not None
        until_s = rental.released_s if rental.released_s is not None else self.now_s
        jobs = rental.jobs_rendered * self.lump
        usage = Usage(rental.rented_s, until_s, rental.terms.death_s, jobs, is_released)
        return self._bill(rental, usage)

    def all_bills(self) -> list[Bill]:
        """Every lease's bill, in the order of renting."""
        return [self.bill(lease_id) for lease_id in self._rentals]

    # Faults.

    def _answer(self, verb: str) -> None:
        """Fail where the service would."""
        self._calls += 1
        now_s, faults = self.now_s, self._stage.faults
        outages, storms = self._troubles()
        if any(now_s in window for window in (*faults.outages, *outages)):
            raise ProviderError(f"{verb}: HTTP 503, the service is away", provider=self.name)
        is_storm = any(now_s in window for window in (*faults.storms, *storms))
        if is_storm and self._calls % STORM_ADMITS != 0:
            raise ProviderError(f"{verb}: HTTP 429, too many requests", provider=self.name)

    def _set_expiry(self, rental: Rental) -> None:
        if not self._stage.is_mortal:
            return
        if rental.expiry is not None:
            rental.expiry.cancel()
        loop = asyncio.get_running_loop()
        when_s = rental.expires_s - self._stage.epoch_s  # in the loop's own time
        rental.expiry = loop.call_at(max(when_s, loop.time()), self._expire, rental)

    def _expire(self, rental: Rental) -> None:
        """Its dead man's switch ends a lease that nobody extended."""
        if rental.released_s is None:
            rental.end(self.now_s, "the lease expired")

    @property
    def rentals(self) -> Mapping[LeaseId, Rental]:
        """Every lease there ever was."""
        return self._rentals


def _fits(offer: Offer, need: Need) -> bool:
    has_memory = offer.vram_gb is None or offer.vram_gb >= need.vram_gb
    return has_memory and (not need.gpus or offer.gpu in need.gpus)


def gone(offer: Offer, why: str) -> OfferGone:
    """The error for an offer that cannot be had any more."""
    return OfferGone(f"{offer.ref}: {why}")
