"""Rents one machine, once, whatever the service answers.

There is no key that would make a creation idempotent, so it never is repeated. Before it the
machine is looked for under its label, since an earlier run may have rented it. After it, an answer
that is no clear yes or no leaves a doubt: for ten minutes every listing is searched for the label,
and what turns up is the lease, or is destroyed if nobody wants it any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from nightkiln.core.errors import OfferGone, ProviderError
from nightkiln.providers.vast.errors import NAME, Kind, VastFailed
from nightkiln.providers.vast.held import Held
from nightkiln.providers.vast.orders import Order, ask_of
from nightkiln.providers.vast.service import VastService
from nightkiln.providers.vast.terms import VastTerms
from nightkiln.providers.vast.watch import Watch

DOUBT_AGAIN_S = 30.0  # a doubt goes on while the service cannot be asked

_log = logging.getLogger(__name__)


class Creating:
    """Carries out orders."""

    def __init__(
        self,
        service: VastService,
        watch: Watch,
        terms: VastTerms,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._service, self._watch, self._terms, self._clock = service, watch, terms, clock

    def begin(self, held: Held, ordered: Callable[[Held], Awaitable[Order]]) -> None:
        """Rent for ``held``, whether anybody waits for it or not: the answer must be heard."""
        task = asyncio.create_task(self._rent(held, ordered), name=f"vast rents {held.lease.id}")
        task.add_done_callback(_heard)
        held.ordering = task

    async def done(self, held: Held) -> None:
        """Returns when ``held`` has its machine.

        Raises:
            OfferGone: it cannot be had, or it did not turn up.
            ProviderError: the service refuses, or must not be trusted with an order now.
        """
        assert held.ordering is not None, "begun when it was first asked for"
        await asyncio.wait([held.ordering])
        if held.ordering.cancelled():
            raise OfferGone("it was given back before it was rented")
        held.ordering.result()

    async def aclose(self) -> None:
        """Wait for nothing any more; what is still in doubt stays so."""
        tasks = [held.ordering for held in self._watch.leases.values() if held.ordering is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _rent(self, held: Held, ordered: Callable[[Held], Awaitable[Order]]) -> None:
        try:
            await self._look_first(held)
            if held.contract is None:
                await self._order(held, await ordered(held))
        finally:
            held.answered.set()

    async def _look_first(self, held: Held) -> None:
        """Adopt the machine if there is one; refuse to rent by a listing that cannot be right."""
        recent_s = asyncio.get_running_loop().time() - self._terms.poll_s
        snapshot = await self._watch.listing.after(recent_s)
        self._watch.see(held, snapshot)
        if held.contract is not None:
            return
        said = await self._watch.disagreement(snapshot)
        if said:
            raise ProviderError(
                f"{NAME}, create: {said}; nothing more is rented until it has them", provider=NAME
            )

    async def _order(self, held: Held, order: Order) -> None:
        def sending() -> None:
            if held.is_ending:
                raise OfferGone("nobody wants it any more")
            held.is_asked, held.asked_s = True, self._clock()

        arguments = order.arguments(self._terms)
        try:
            contract = await self._service.create(ask_of(order.offer), arguments, sending=sending)
        except VastFailed as failed:
            await self._refused(held, failed)
        else:
            held.find(contract, self._clock())
        if held.is_ending and held.contract is not None:  # meanwhile nobody wants it any more
            self._watch.releaser.doom([held.contract])

    async def _refused(self, held: Held, failed: VastFailed) -> None:
        if held.contract is not None and failed.is_ambiguous:
            return  # a listing has shown it before the answer failed to come
        if failed.contract is not None:
            # It says no and has made one all the same, stopped and billed for its disk.
            held.is_ending = True
            held.find(failed.contract, self._clock())
            self._watch.releaser.doom([failed.contract])
            raise OfferGone(str(failed)) from failed
        if failed.kind in {Kind.OFFER_GONE, Kind.PRICE}:
            raise OfferGone(str(failed)) from failed
        if not failed.is_ambiguous:
            raise failed
        _log.warning("%s may have been rented, or not: %s", held.label, failed)
        held.is_doubtful = True
        held.answered.set()  # as far as it goes: a release must not wait for all of that
        await self._wait_for(held)

    async def _wait_for(self, held: Held) -> None:
        """Until it turns up in a listing, or the time is over and a last listing lacks it, too."""
        wait_s = self._terms.limits.ambiguous_s
        while not held.found.is_set():
            try:
                async with asyncio.timeout(wait_s):
                    await held.found.wait()
            except TimeoutError:
                wait_s = DOUBT_AGAIN_S
                if await self._is_absent(held):
                    held.is_doubtful = False
                    raise OfferGone(
                        "nobody has confirmed the order, and the machine did not turn up"
                    ) from None

    async def _is_absent(self, held: Held) -> bool:
        try:
            await self._watch.listing.after(asyncio.get_running_loop().time())
        except VastFailed as failed:
            _log.warning("%s cannot be looked for: %s", held.label, failed)
            return False
        return not held.found.is_set()


def _heard(task: asyncio.Task[None]) -> None:
    """Whoever asked may have gone; then nobody is told, and that is no error."""
    if not task.cancelled():
        task.exception()
