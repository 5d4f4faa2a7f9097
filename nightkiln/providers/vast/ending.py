"""Gives leases back: what is known at once, what is in doubt as soon as it turns up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from nightkiln.core.errors import NightkilnError, ProviderError
from nightkiln.providers.vast.errors import NAME, Kind, VastFailed
from nightkiln.providers.vast.held import Held
from nightkiln.providers.vast.terms import Limits
from nightkiln.providers.vast.watch import Watch

_log = logging.getLogger(__name__)


class Ending:
    """Ends leases of this process, and machines that are known by their label only."""

    def __init__(self, watch: Watch, limits: Limits) -> None:
        self._watch, self._limits = watch, limits

    async def end(self, leases: Sequence[Held], labels: Sequence[str]) -> None:
        """Returns when none of them costs anything any more.

        Raises:
            ProviderError: that is not confirmed, or not even known of one of them.
        """
        for held in leases:
            _give_up(held)
        known = {held.contract for held in leases if held.contract is not None}
        self._watch.releaser.doom(known)  # at once: the rest may take its time
        try:
            async with asyncio.timeout(self._limits.release_s):
                for held in leases:
                    await held.answered.wait()
                doubtful = await self._end_known(leases, labels)
        except TimeoutError:
            names = ", ".join([*(held.label for held in leases), *labels])
            said = f"after {self._limits.release_s:.0f} s still listed: {names[:500]}"
            raise VastFailed(Kind.SERVICE, "destroy", said=said) from None
        if doubtful:
            names = ", ".join(held.label for held in doubtful)
            raise ProviderError(
                f"{NAME}, destroy: it is not known yet whether {names} was rented; it is looked "
                "for in every listing, and destroyed when it turns up",
                provider=NAME,
            )

    async def _end_known(self, leases: Sequence[Held], labels: Sequence[str]) -> list[Held]:
        """End what can be found; the leases that cannot be told anything of."""
        contracts = {held.contract for held in leases if held.contract is not None}
        contracts |= {extra for held in leases for extra in held.extras}
        if labels or any(held.is_in_doubt for held in leases):
            snapshot = await self._watch.listing.after(asyncio.get_running_loop().time())
            wanted = {*labels, *(held.label for held in leases)}
            contracts |= {row.contract for row in snapshot.rows.values() if row.label in wanted}
        await self._watch.releaser.gone(contracts)
        doubtful = [held for held in leases if held.is_in_doubt]
        for held in leases:
            if held not in doubtful:
                self._watch.drop(held)
        return doubtful

    async def farewell(self) -> None:
        """Look a last time for what nobody has confirmed, and finish what was begun.

        What cannot be found out within the limit is left to the machine's own switch and to the
        reaper, and said so.
        """
        for held in self._watch.leases.values():
            if held.contract is None:
                _give_up(held)
        try:
            async with asyncio.timeout(self._limits.farewell_s):
                await self._last_look()
                await self._watch.releaser.idle()
        except (TimeoutError, NightkilnError) as error:
            _log.warning("the last look for unconfirmed machines failed: %r", error)
        left = await self._watch.releaser.aclose()
        doubtful = [h.label for h in self._watch.leases.values() if h.is_in_doubt]
        if left or doubtful:
            _log.warning(
                "%d machines are not confirmed gone, and of these it is not known whether they "
                "were rented: %s; nightkiln reap ends what is left",
                left,
                ", ".join(doubtful),
            )

    async def _last_look(self) -> None:
        unfinished = [held for held in self._watch.leases.values() if held.is_ending]
        for held in unfinished:
            await held.answered.wait()
        if any(held.is_in_doubt for held in unfinished):
            await self._watch.listing.after(asyncio.get_running_loop().time())
        found = {held.contract for held in unfinished if held.contract is not None}
        self._watch.releaser.doom(found)


def _give_up(held: Held) -> None:
    """Nobody wants it any more; an order that has not gone out never will."""
    held.is_ending = True
    if not held.is_asked and held.contract is None:
        held.answered.set()
        if held.ordering is not None:
            held.ordering.cancel()
