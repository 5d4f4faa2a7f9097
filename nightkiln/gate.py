"""What stands between a run and its first dollar: a quote, and somebody's word."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from nightkiln.core.errors import Problem, Refused
from nightkiln.core.model import BatchId, Usd
from nightkiln.goals import Goals
from nightkiln.ports.blobs import Blobs
from nightkiln.store.quotes import Quoted, write_quote

Tell: TypeAlias = Callable[[str, Mapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Ahead:
    """What is about to be paid for."""

    jobs: int  # left when all that earlier runs and other batches have done is counted
    goals: Goals
    leases_max: int
    now_s: float  # epoch seconds
    providers: frozenset[str] = frozenset()  # to rent from; empty: nobody says
    batch: str = ""  # its name

    @property
    def budget(self) -> Usd:
        assert self.goals.budget is not None, "what bills is not used without a budget"
        return self.goals.budget

    @property
    def left_s(self) -> float | None:
        """Seconds until the deadline; None: there is none."""
        return self.goals.deadline_s - self.now_s if self.goals.deadline_s is not None else None


@dataclass(frozen=True, slots=True)
class Passage:
    """Whether a run may go on to rent, what it may spend, and what it was quoted."""

    quoted: Quoted | None = None  # to be kept in the store, whatever became of it
    refusal: Problem | None = None
    budget: Usd | None = None  # all that this run may spend; None: as it was asked for


class Gate(Protocol):
    """Asked once per run that has something left to do and a provider that bills."""

    async def __call__(self, ahead: Ahead, tell: Tell) -> Passage:
        """Quote what is ahead and decide; what people are to see is told as events.

        It may take as long as somebody needs to answer: nothing is rented meanwhile, and a run
        that is told to stop does not wait for it.
        """


async def unquoted(ahead: Ahead, tell: Tell) -> Passage:
    """A gate that is open: for runs so small that their budget says it all."""
    del ahead, tell
    return Passage()


async def admitted(
    gate: Gate,
    ahead: Ahead,
    tell: Tell,
    *,
    blobs: Blobs,
    batch: BatchId,
    clock: Callable[[], float],
) -> Passage:
    """Pass the gate; what was quoted is in the store before anything can be rented.

    Raises:
        Refused: nothing may be rented; the quote that says why is in the store, too.
    """
    passage = await gate(ahead, tell)
    if passage.quoted is not None:
        decided_s = clock()
        await asyncio.to_thread(write_quote, blobs, batch, passage.quoted, decided_s=decided_s)
    if passage.refusal is not None:
        usd_p90 = passage.quoted.usd_p90 if passage.quoted is not None else None
        raise Refused(passage.refusal, batch=batch.batch, usd_p90=usd_p90)
    assert passage.budget is None or passage.budget <= ahead.budget, "a gate never gives more"
    return passage
