"""What stands between a run and its first dollar: a quote, and somebody's word."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from nightkiln.core.errors import BadInput, Problem
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

    @property
    def budget(self) -> Usd:
        assert self.goals.budget is not None, "what bills is not used without a budget"
        return self.goals.budget


@dataclass(frozen=True, slots=True)
class Passage:
    """Whether a run may go on to rent, and what it was quoted."""

    quoted: Quoted | None = None  # to be kept in the store, whatever became of it
    refusal: Problem | None = None


class Gate(Protocol):
    """Asked once per run that has something left to do and a provider that bills."""

    async def __call__(self, ahead: Ahead, tell: Tell) -> Passage:
        """Quote what is ahead and decide; what people are to see is told as events."""


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
) -> Quoted | None:
    """Pass the gate; what was quoted is in the store before anything can be rented.

    Raises:
        BadInput: nothing may be rented; the quote that says why is in the store, too.
    """
    passage = await gate(ahead, tell)
    if passage.quoted is not None:
        decided_s = clock()
        await asyncio.to_thread(write_quote, blobs, batch, passage.quoted, decided_s=decided_s)
    if passage.refusal is not None:
        raise BadInput([passage.refusal])
    return passage.quoted
