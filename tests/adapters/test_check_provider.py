"""The suite for providers: sound ones pass it, and each kind of broken one is found out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Self

import pytest

from nightkiln.core.errors import ProviderError
from nightkiln.core.model import BoundJob, JobId, Lease, LeaseId, Need, Offer
from nightkiln.providers.local import LocalProvider
from nightkiln.testing import virtual_time
from nightkiln.testing.check_provider import CHECKS, Broken, Subject, check_provider, run_check
from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.market import Night, shipped_market
from nightkiln.testing.market.machines import Boot
from nightkiln.testing.market.providers import SimulatedFallback, SimulatedMarket, Stage
from nightkiln.testing.market.samples import HOUR_S, calm, job, starting_with
from nightkiln.testing.market.service import SimulatedService
from nightkiln.testing.market.worker import SimulatedWorker

STAGE = Stage(is_mortal=True)
CALM = starting_with(calm(shipped_market("ordinary")), Boot.OK)


def night() -> Night:
    return Night(CALM, seed=1, horizon_s=8 * HOUR_S)


def subject(make: Callable[[], SimulatedService]) -> Subject:
    """A simulated service, the same one for every process that connects to it."""
    service = make()
    return Subject(
        make=lambda: service,
        job=job(1),
        clock=lambda: asyncio.get_running_loop().time(),
        mortal_s=1200.0,
    )


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("front", [SimulatedMarket, SimulatedFallback])
def test_the_simulated_services_keep_every_promise(
    front: Callable[..., SimulatedService], name: str
) -> None:
    virtual_time.run(run_check(subject(lambda: front(night(), stage=STAGE)), name))


def drawn() -> BoundJob:
    """A job that any ComfyUI renders without a model."""
    graph = {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 7},
        },
        "2": {
            "class_type": "SaveImage",
            "inputs": {"images": ["1", 0], "filename_prefix": "check"},
        },
    }
    return BoundJob(JobId("c" * 64), graph, outputs_expected=1)


async def test_local_keeps_every_promise() -> None:
    async with StandIn() as first, StandIn() as second:
        urls = [first.url, second.url]
        await check_provider(Subject(make=lambda: LocalProvider(urls), job=drawn()))


# Broken ones.


class Forgetful(SimulatedMarket):
    """Does not know that it was asked before."""

    async def rent(
        self, offer: Offer, lease_id: LeaseId, need: Need, *, expires_at_s: float
    ) -> Lease:
        lease = await super().rent(offer, lease_id, need, expires_at_s=expires_at_s)
        self._calls += 1
        return replace(lease, host=f"{lease.host} {self._calls}")


class Short(SimulatedMarket):
    """Lists the first page."""

    async def owned(self) -> Sequence[LeaseId]:
        return (await super().owned())[:1]


class Nostalgic(SimulatedMarket):
    """Lists what is long gone."""

    async def owned(self) -> Sequence[LeaseId]:
        return list(self.rentals)


class Touchy(SimulatedMarket):
    """Cannot release what is not there."""

    async def release(self, lease_ids: Sequence[LeaseId]) -> None:
        for lease_id in lease_ids:
            if lease_id not in self.rentals:
                raise ProviderError("404", provider=self.name)
        await super().release(lease_ids)


class Raw(SimulatedMarket):
    """Lets its client's errors through."""

    def _terms(self, offer: Offer, now_s: float) -> object:  # type: ignore[override]
        if self.rentals:
            raise KeyError(offer.ref)
        return super()._terms(offer, now_s)


class Eager(SimulatedMarket):
    """Rents while it only looks."""

    async def offers(self, need: Need, *, limit: int) -> Sequence[Offer]:
        found = await super().offers(need, limit=limit)
        await self.rent(found[0], LeaseId("eager-1-lease-000"), need, expires_at_s=HOUR_S)
        return found


class Generous(SimulatedMarket):
    """Bills, and says that it is for free."""

    async def offers(self, need: Need, *, limit: int) -> Sequence[Offer]:
        found = await super().offers(need, limit=limit)
        return [replace(one, usd_per_hour=Decimal(0)) for one in found]


class Littering(SimulatedMarket):
    """Leaves a task behind whenever somebody connects."""

    @asynccontextmanager
    async def connect(self, lease: Lease) -> AsyncIterator[SimulatedWorker]:
        self._left = asyncio.create_task(asyncio.sleep(HOUR_S), name="left behind")
        async with super().connect(lease) as worker:
            yield worker


class Hasty(SimulatedMarket):
    """Gives a lease back as soon as nobody is connected."""

    @asynccontextmanager
    async def connect(self, lease: Lease) -> AsyncIterator[SimulatedWorker]:
        try:
            async with super().connect(lease) as worker:
                yield worker
        finally:
            await self.release([lease.id])


class Limited(SimulatedMarket):
    """Cannot let a lease live longer."""

    def _set_expiry(self, rental: object) -> None:
        if getattr(rental, "expiry", None) is None:
            super()._set_expiry(rental)  # type: ignore[arg-type]


class Blind(SimulatedMarket):
    """Connects to whatever it is told to."""

    @asynccontextmanager
    async def connect(self, lease: Lease) -> AsyncIterator[SimulatedWorker]:
        rental = self._rentals[lease.id]
        await self._come_up(rental, lease.offer.startup_s) if rental.released_s is None else None
        yield self._worker(rental)


class Endless(SimulatedMarket):
    """Keeps a task of its own for ever."""

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._poller = asyncio.create_task(asyncio.sleep(100 * HOUR_S), name="poller")
        return self


IMMORTAL = Stage(is_mortal=False)


@pytest.mark.parametrize(
    ("front", "name", "said"),
    [
        (Forgetful, "renting_twice_is_renting_once", "the second call gave another lease"),
        (Short, "what_is_rented_is_listed_and_no_more", "rented are"),
        (Nostalgic, "releasing_is_for_sure_and_may_be_repeated", "still listed"),
        (Touchy, "releasing_is_for_sure_and_may_be_repeated", "unexpected: ProviderError"),
        (Raw, "what_somebody_has_is_gone", "a stranger's error"),
        (Eager, "offers_can_be_rented_from", "has rented something"),
        (Generous, "offers_can_be_rented_from", "cannot be"),
        (Littering, "a_worker_renders", "leaves tasks at work: left behind"),
        (Littering, "connecting_may_be_called_off", "leaves tasks at work: left behind"),
        (Hasty, "a_worker_renders", "leaving connect ended the lease"),
        (Hasty, "connecting_may_be_called_off", "cancelled ended the lease"),
        (Limited, "a_lease_ends_by_itself", "ended as agreed first"),
        (Blind, "what_is_released_cannot_be_connected_to", "can still be connected to"),
        (Endless, "renting_twice_is_renting_once", "leaving the provider leaves tasks"),
    ],
)
def test_a_broken_provider_is_found_out(
    front: Callable[..., SimulatedService], name: str, said: str
) -> None:
    broken = subject(lambda: front(night(), stage=STAGE))

    with pytest.raises(Broken, match=said):
        virtual_time.run(run_check(broken, name))


def test_one_whose_leases_live_for_ever_is_found_out() -> None:
    immortal = subject(lambda: SimulatedMarket(night(), stage=IMMORTAL))

    with pytest.raises(Broken, match="outlived"):
        virtual_time.run(run_check(immortal, "a_lease_ends_by_itself"))


def test_all_that_is_broken_is_said_at_once() -> None:
    broken = subject(lambda: Nostalgic(night(), stage=STAGE))

    with pytest.raises(Broken) as found:
        virtual_time.run(check_provider(broken))

    assert len(str(found.value).splitlines()) >= 3
