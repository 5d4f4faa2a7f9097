"""A provider under examination: what the suite in ``check_provider`` works with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from nightkiln.core.lease_ids import lease_id
from nightkiln.core.model import BoundJob, Lease, LeaseId, Need, Offer
from nightkiln.ports.provider import Provider

T = TypeVar("T")
OFFERS_MAX = 100
LIFE_S = 3600.0  # of a lease that is not to end by itself
ANSWER_S_MAX = 300.0  # for any one verb, by the provider's clock
TIDY_S = 1.0  # for what a cancelled verb has begun to end
BATCH = "check"  # whose leases the suite rents


class Broken(AssertionError):
    """The provider does not keep a promise; the message says which and how."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A provider to be examined, and what the suite may do with it."""

    make: Callable[[], Provider]  # one that is not entered; each call as another process would
    job: BoundJob | None = None  # to render; None: no worker is connected to
    need: Need = field(default_factory=Need)
    clock: Callable[[], float] = time.time  # epoch seconds, as the provider counts them
    pass_time: Callable[[float], Awaitable[None]] = asyncio.sleep
    mortal_s: float | None = None  # of life after which a lease must be gone; None: not examined


@dataclass(slots=True)
class Case:
    """One provider, entered, and the leases that were rented from it."""

    subject: Subject
    provider: Provider
    rented: list[LeaseId] = field(default_factory=list)
    run: int = 1

    async def offer(self) -> Offer:
        """The cheapest."""
        offers = await self.offers()
        require(bool(offers), "it offers nothing, so nothing can be examined")
        return min(offers, key=lambda one: (one.usd_per_hour, one.ref))

    async def offers(self, limit: int = OFFERS_MAX) -> list[Offer]:
        found = await bounded("offers", self.provider.offers(self.subject.need, limit=limit))
        return list(found)

    def name(self) -> LeaseId:
        """A lease that nobody has had before."""
        name = lease_id(f"{BATCH}-{self.run}", len(self.rented))
        self.rented.append(name)
        return name

    async def rent(
        self, offer: Offer, name: LeaseId | None = None, *, life_s: float = LIFE_S
    ) -> Lease:
        name = name if name is not None else self.name()
        expires_at_s = self.subject.clock() + life_s
        return await bounded(
            "rent",
            self.provider.rent(offer, name, self.subject.need, expires_at_s=expires_at_s),
        )

    async def owned(self) -> list[LeaseId]:
        return sorted(await bounded("owned", self.provider.owned()))

    async def release(self, *names: LeaseId) -> None:
        await bounded("release", self.provider.release(names))


def require(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - it reads as a sentence
    """Fail with ``otherwise`` unless ``holds``."""
    if not holds:
        raise Broken(otherwise)


async def bounded(verb: str, doing: Awaitable[T]) -> T:
    """The verb's answer, which must not take for ever."""
    try:
        async with asyncio.timeout(ANSWER_S_MAX):
            return await doing
    except TimeoutError as error:
        raise Broken(f"{verb} took longer than {ANSWER_S_MAX:.0f} s") from error


async def ended(before: set[asyncio.Task[object]], subject: Subject, after: str) -> None:
    """Nothing that was begun meanwhile is still at work."""
    await subject.pass_time(TIDY_S)
    left = [task.get_name() for task in asyncio.all_tasks() - before if not task.done()]
    require(not left, f"{after} leaves tasks at work: {', '.join(left)}")
