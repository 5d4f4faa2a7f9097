"""Two nights of one catalog never work at once in a store: the one that came second is refused.

A night that takes until noon would else spend beside the next one, each within a budget of its own.
Who asks is the run itself, and it asks the store: Prefect's own limit for a deployment counts runs
that died unseen, and ends the living run when its server was away for some minutes. A night whose
process is dead, or gave no sign of life for a minute, stands in nobody's way.

    nights/<digest of the catalog's name>/<turn>.json    which run's turn it is

Nights of a catalog take turns. A turn is created only if absent, by a run that has claimed its
batch; it lasts as long as that claim lives.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from nightkiln.core.errors import ClaimHeld, NightAtWork, StoreUnusable
from nightkiln.outcome import BAD_INPUT
from nightkiln.ports.blobs import Blobs
from nightkiln.store.claim import Claim, verdict_on
from nightkiln.store.claims import Held, read_claim

TURN_TRIES_MAX = 10  # other nights were faster that often: something starts them without end
DIGITS = 16  # hex; a catalog's folder may have a name that no key can have

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Turn:
    """The last turn that was taken, and the run that took it."""

    number: int
    batch: str
    epoch: int


@asynccontextmanager
async def claimed(
    blobs: Blobs, batch: str, night: str | None, *, clock: Callable[[], float]
) -> AsyncIterator[Claim]:
    """A batch that is ours while the context lasts; ``night``: the catalog of which it is a night.

    Raises:
        ClaimHeld: another run works on this batch.
        NightAtWork: another night of the catalog does, on another batch; nothing was started.
    """
    async with Claim(blobs, batch, clock=clock) as claim:
        if night is not None:
            try:
                await asyncio.to_thread(take_turn, blobs, night, batch, claim.epoch, now_s=clock())
            except ClaimHeld:
                claim.end({"exit_code": BAD_INPUT})
                raise
        _log.info("batch %s is claimed by run %d", batch, claim.epoch)
        yield claim


def take_turn(blobs: Blobs, night: str, batch: str, epoch: int, *, now_s: float) -> None:
    """Become the one night of the catalog that is at work. Blocking.

    Raises:
        NightAtWork: another one is; the message says what to do.
        StoreUnusable: a turn in the store cannot be read, or others were faster all the time.
    """
    for _ in range(TURN_TRIES_MAX):
        last = last_turn(blobs, night)
        if last is not None and last.batch != batch:
            _see_over(blobs, night, batch, last, now_s=now_s)
        number = last.number + 1 if last is not None else 1
        if blobs.create(turn_key(night, number), turn_json(batch, epoch)):
            return
    raise StoreUnusable(f"catalog {night!r}: {TURN_TRIES_MAX} other nights were faster; try again")


def last_turn(blobs: Blobs, night: str) -> Turn | None:
    """The newest turn of a catalog's nights.

    Raises:
        StoreUnusable: it is damaged.
    """
    newest = max(blobs.list(_folder(night)), default=None)
    if newest is None:
        return None
    try:
        told = json.loads(blobs.get(newest))
        number = int(newest.rpartition("/")[2].removesuffix(".json"))
        return Turn(number, str(told["batch"]), int(told["epoch"]))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise StoreUnusable(f"{newest} is damaged ({error}); remove it to go on") from error


def _see_over(blobs: Blobs, night: str, batch: str, turn: Turn, *, now_s: float) -> None:
    seen = read_claim(blobs, turn.batch, turn.epoch)
    if isinstance(verdict_on(seen, now_s=now_s), Held):
        assert seen is not None, "what is not there is held by nobody"
        raise NightAtWork(
            f"another night of catalog {night!r} is at work: batch {turn.batch!r} by "
            f"{seen.describe(now_s)}; nothing was started. Wait for it and run this again, or end "
            f"it with 'nightkiln stop {turn.batch}'",
            batch=batch,
            other=turn.batch,
            owner=f"{seen.owner.host}:{seen.owner.pid}",
            since_s=seen.started_s,
        )


def turn_key(night: str, number: int) -> str:
    """Where a turn of a catalog's nights lies."""
    return f"{_folder(night)}{number:06d}.json"


def turn_json(batch: str, epoch: int) -> bytes:
    """The content of a turn."""
    return json.dumps({"batch": batch, "epoch": epoch}, indent=1).encode()


def _folder(night: str) -> str:
    return f"nights/{hashlib.sha256(night.encode()).hexdigest()[:DIGITS]}/"
