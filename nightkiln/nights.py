"""Two nights of one catalog never work at once in a store: the one that came second is refused.

A night that takes until noon would else spend beside the next one, each within a budget of its own.
Who asks is the run itself, and it asks the store: Prefect's own limit for a deployment counts runs
that died unseen, and ends the living run when its server was away for some minutes. A night whose
process is dead, or gave no sign of life for a minute, stands in nobody's way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from nightkiln.core.errors import ClaimHeld, NightAtWork
from nightkiln.outcome import BAD_INPUT
from nightkiln.ports.blobs import Blobs
from nightkiln.store.claim import Claim, verdict_on
from nightkiln.store.claims import Held, SeenClaim, not_ended


@asynccontextmanager
async def claimed(
    blobs: Blobs, batch: str, night: str | None, *, clock: Callable[[], float]
) -> AsyncIterator[Claim]:
    """A batch that is ours while the context lasts; ``night``: the catalog of which it is a night.

    Of two nights that begin at the same moment exactly one goes on: each claims its batch first and
    looks around then, and the younger one yields.

    Raises:
        ClaimHeld: another run works on this batch.
        NightAtWork: another night of the catalog does, on another batch; nothing was started.
    """
    async with Claim(blobs, batch, clock=clock, night=night) as claim:
        if night is not None:
            try:
                await asyncio.to_thread(see_alone, blobs, batch, now_s=clock())
            except ClaimHeld:
                claim.end({"exit_code": BAD_INPUT})
                raise
        yield claim


def see_alone(blobs: Blobs, batch: str, *, now_s: float) -> None:
    """See that the night that has claimed ``batch`` is the only one of its catalog. Blocking.

    Raises:
        NightAtWork: it is not, and the other one was there first; the message says what to do.
    """
    found = not_ended(blobs)
    living = {
        name: claim
        for name, claim in found.items()
        if isinstance(verdict_on(claim, now_s=now_s), Held)
    }
    other = in_the_way(batch, found[batch], living)
    if other is None:
        return
    seen = living[other]
    raise NightAtWork(
        f"another night of catalog {seen.night!r} is at work: batch {other!r} by "
        f"{seen.describe(now_s)}; nothing was started. Wait for it and run this again, or end it "
        f"with 'nightkiln stop {other}'",
        batch=batch,
        other=other,
        owner=f"{seen.owner.host}:{seen.owner.pid}",
        since_s=seen.started_s,
    )


def in_the_way(batch: str, mine: SeenClaim, living: Mapping[str, SeenClaim]) -> str | None:
    """The batch of the oldest living night of the same catalog that is older than ``mine``."""
    elder = sorted(
        (claim.started_s, name)
        for name, claim in living.items()
        if claim.night is not None and claim.night == mine.night and name != batch
    )
    return next((name for age, name in elder if (age, name) < (mine.started_s, batch)), None)
