"""Who decides in a run: its scheduler, with what it remembers and what it leaves in writing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from types import TracebackType
from typing import Self

from nightkiln import __version__
from nightkiln.core.errors import StoreUnusable
from nightkiln.core.events import Blame
from nightkiln.core.model import BatchId, Trust
from nightkiln.core.scheduler import Scheduler
from nightkiln.core.story import Opening, Step
from nightkiln.core.terms import Load
from nightkiln.goals import Goals
from nightkiln.ports.provider import Provider
from nightkiln.priors import shipped_priors
from nightkiln.remembering import Memory
from nightkiln.store.store import Store
from nightkiln.story import StoryFile


class Decisions:
    """A scheduler that starts from earlier nights. Made by ``begin``.

    Inside its context everything is written down, and what is learned is kept when it ends;
    ``warn`` hears what of that went wrong, for none of it ends a run.
    """

    def __init__(
        self,
        opening: Opening,
        memory: Memory,
        store: Store,
        batch: BatchId,
        *,
        warn: Callable[[str], Awaitable[None]],
    ) -> None:
        self.scheduler: Scheduler = opening.scheduler()
        self._opening, self._memory, self._warn = opening, memory, warn
        self._path = store.story_path(batch)
        self._keep_story = partial(store.keep_story, batch)
        self._story: StoryFile | None = None

    @classmethod
    async def begin(
        cls,
        store: Store,
        batch: BatchId,
        *,
        goals: Goals,
        jobs: int,
        leases_max: int,
        providers: Collection[Provider],
        clock: Callable[[], float],
        opens: Callable[[Opening], Opening],
        warn: Callable[[str], Awaitable[None]],
        load: Load,
        trust: Trust = Trust.ANY,
    ) -> Self:
        """A scheduler for ``jobs`` jobs, with what earlier runs have learned.

        ``opens`` has the last word on what it starts from.

        Raises:
            StoreUnusable: the store cannot be read.
        """
        bills = {provider.name for provider in providers if provider.bills}
        memory = Memory(store.blobs, batch, bills=bills, clock=clock)
        await memory.recall()
        if memory.left_out:
            await warn(f"damaged or from another nightkiln, not used: {', '.join(memory.left_out)}")
        now_s, clock_s = clock(), asyncio.get_running_loop().time()
        label = f"{batch.batch}-{batch.epoch}"
        terms = goals.terms(
            label, leases_max, jobs=jobs, now_s=now_s, clock_s=clock_s, load=load, trust=trust
        )
        opening = Opening(
            batch=batch.batch,
            epoch=batch.epoch,
            nightkiln=__version__,
            began_s=now_s,
            clock_s=clock_s,
            terms=terms,
            priors=shipped_priors(),
            scores=memory.scores,
            blocked=memory.blocked(clock_s=clock_s),
        )
        return cls(opens(opening), memory, store, batch, warn=warn)

    async def __aenter__(self) -> Self:
        self._story = StoryFile(self._path, self._opening)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._story is not None, "left before it was entered"
        forgotten = await self._memory.keep(self.scheduler.state.knowledge)
        if forgotten is not None:
            await self._warn(f"what this run learned is not kept: {forgotten}")
        trouble = await asyncio.to_thread(self._end_story)
        if trouble is not None:
            lost = "the story of this run is not whole, so `why` cannot tell all of it"
            await self._warn(f"{lost}: {trouble}")

    def _end_story(self) -> str | None:
        """Close the story and put it where it is found; what went wrong."""
        assert self._story is not None, "ended before it was begun"
        trouble = self._story.close()
        if trouble is None:
            try:
                self._keep_story()
            except StoreUnusable as error:
                return str(error)
        return trouble

    @property
    def load(self) -> Load:
        """What goes over the wire, as the scheduler counts it."""
        return self._opening.terms.load

    def tell(self, step: Step) -> None:
        """Write a step down; neither waits nor fails."""
        assert self._story is not None, "told before it was entered"
        self._story.tell(step)

    async def blame(self, blame: Blame) -> None:
        """Remember a machine, also in later nights."""
        await self._memory.blame(blame)

    async def keep_on(self) -> None:
        """Keep what is learned, now and then, for ever."""
        await self._memory.keep_on(self.scheduler.state.knowledge)
