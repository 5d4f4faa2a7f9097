"""One run's memory: what the store remembers before it, and what the store will remember of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from math import log

from nightkiln.core.errors import StoreUnusable
from nightkiln.core.events import Blame
from nightkiln.core.learning import Knowledge, Scores
from nightkiln.core.model import BatchId, Host, Offer
from nightkiln.ports.blobs import Blobs
from nightkiln.store.scores import (
    Blocked,
    MachineLuck,
    Remembered,
    market_json,
    read_scores,
    scores_keys,
    workflow_json,
)

KEEP_EVERY_S = 120.0  # what a killed run loses of what it learned, at most
LUCK_JOBS_MIN = 5.0  # fewer say little about a machine
NOBODY = Offer("", "a machine that nobody has tried")


class Memory:
    """What this run starts from, and keeps up to date; times are epoch seconds.

    ``bills`` names the providers that cost money: of those alone a blocklist is kept, for nobody
    can replace a machine of his own by another.
    """

    def __init__(
        self, blobs: Blobs, batch: BatchId, *, bills: Collection[str], clock: Callable[[], float]
    ) -> None:
        self._blobs, self._batch, self._bills, self._clock = blobs, batch, frozenset(bills), clock
        self._started_s = clock()
        self._before: Mapping[Host, float] = {}  # jobs per machine, of earlier runs
        self._remembered = Remembered()

    @property
    def scores(self) -> Scores:
        """What is known; the scheduler learns into it."""
        return self._remembered.scores

    @property
    def left_out(self) -> list[str]:
        """Objects in the store that could not be used."""
        return self._remembered.left_out

    async def recall(self) -> None:
        """Read what earlier runs have learned.

        Raises:
            StoreUnusable: the store cannot be read.
        """
        digest = self._batch.workflow_digest
        found = await asyncio.to_thread(read_scores, self._blobs, digest, now_s=self._started_s)
        found.blocked = {
            host: block for host, block in found.blocked.items() if host[0] in self._bills
        }
        self._before = {host: pace.jobs for host, pace in found.scores.machines.items()}
        self._remembered = found

    def blocked(self, *, clock_s: float) -> dict[Host, float]:
        """Until when which machines are not to be rented, on a clock that shows ``clock_s`` now."""
        now_s = self._clock()
        return {
            host: clock_s + block.until_s - now_s
            for host, block in self._remembered.blocked.items()
        }

    async def blame(self, blame: Blame) -> None:
        """Remember a machine not to be rented for a while."""
        if blame.provider not in self._bills:
            return
        now_s = self._clock()
        block = Blocked(blame.provider, blame.machine, blame.cause, now_s, now_s + blame.ttl_s)
        known = self._remembered.blocked.get(block.host)
        if known is None or known.until_s < block.until_s:
            self._remembered.blocked[block.host] = block

    async def keep_on(self, knowledge: Knowledge) -> None:
        """Write now and then, for ever."""
        while True:
            await asyncio.sleep(KEEP_EVERY_S)
            await self.keep(knowledge)

    async def keep(self, knowledge: Knowledge) -> str | None:
        """Write what is known now; what went wrong, or None. A run does not end for that."""
        now_s, remembered = self._clock(), self._remembered
        for host, pace in self.scores.machines.items():
            if pace.jobs > self._before.get(host, 0.0):
                remembered.seen_s[host] = now_s
        workflow_key, market_key = scores_keys(self._batch, started_s=self._started_s)
        workflow = workflow_json(self.scores, remembered.seen_s, now_s=now_s)
        luck = self._luck(knowledge, now_s)
        market = market_json(self.scores, luck, remembered.blocked.values(), now_s=now_s)
        try:
            await asyncio.to_thread(self._blobs.put, workflow_key, workflow)
            await asyncio.to_thread(self._blobs.put, market_key, market)
        except StoreUnusable as error:
            return str(error)
        return None

    def _luck(self, knowledge: Knowledge, now_s: float) -> list[MachineLuck]:
        """Machines against others of their class, those tried tonight by tonight's work."""
        before, seen_s = self.scores.luck, self._remembered.luck_seen_s
        found = {
            host: MachineLuck(*host, value, seen_s.get(host, 0.0)) for host, value in before.items()
        }
        for host, pace in self.scores.machines.items():
            if pace.jobs >= LUCK_JOBS_MIN and pace.jobs > self._before.get(host, 0.0):
                found[host] = MachineLuck(*host, luck_of(knowledge, host, pace.gpu), now_s)
        return list(found.values())


def luck_of(knowledge: Knowledge, host: Host, gpu: str) -> float:
    """Ln of how much slower a machine is than one of its class that nobody has tried."""
    own = Offer(host[0], host[1], gpu)
    stranger = Offer(NOBODY.provider, NOBODY.ref, gpu)
    return log(knowledge.pace(own)[0] / knowledge.pace(stranger)[0])
