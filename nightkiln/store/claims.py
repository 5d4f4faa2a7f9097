"""One run per batch: a claim is created only if absent, kept alive, and fenced by its epoch.

    claims/<batch>/<epoch>.json            who works on the batch, since when
    claims/<batch>/<epoch>.heartbeat.json  when it was last alive; written again and again
    claims/<batch>/<epoch>.stop.json       a request to stop, by ``nightkiln stop``
    claims/<batch>/<epoch>.ended.json      the run is over, and how it went

Every run of a batch gets the next epoch; the highest one owns the batch. Whoever finds a higher
epoch than its own has lost the batch and stops; what it made is under keys of its own epoch,
so it can spoil nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nightkiln.core.errors import StoreUnusable
from nightkiln.ports.blobs import Blobs
from nightkiln.store.processes import Process

HEARTBEAT_S = 5.0
STALE_S = 60.0  # twelve heartbeats missed: the run is dead, or so ill that it must stop

_CLAIM = re.compile(r"(?P<epoch>[0-9]{6})\.json")


@dataclass(frozen=True, slots=True)
class StopRequest:
    """Somebody wants the run to end: after the jobs in flight, or ``now``."""

    now: bool
    requested_s: float


@dataclass(frozen=True, slots=True)
class SeenClaim:
    """A run's claim as the store shows it."""

    epoch: int
    owner: Process
    started_s: float
    alive_s: float  # the newest sign of life: heartbeat, else start
    ended: Mapping[str, Any] | None  # what the run said when it ended

    def describe(self, now_s: float) -> str:
        """Who, since when, and how lately alive, in words."""
        return (
            f"{self.owner.host} (process {self.owner.pid}) since {_ago(now_s - self.started_s)}, "
            f"last heartbeat {_ago(now_s - self.alive_s)}"
        )


@dataclass(frozen=True, slots=True)
class Free:
    """The batch may be taken with this epoch: nobody has it, or its last run has ended."""

    epoch: int


@dataclass(frozen=True, slots=True)
class TakeOver:
    """The batch may be taken with this epoch from a run that died without a word."""

    epoch: int
    dead: SeenClaim


@dataclass(frozen=True, slots=True)
class Held:
    """The batch is not to be had."""

    by: SeenClaim


def who_may(
    newest: SeenClaim | None, *, now_s: float, stale_s: float, is_proven_dead: bool
) -> Free | TakeOver | Held:
    """What the newest claim of a batch means for somebody who wants the batch.

    A heartbeat from the future (another machine's clock) is a sign of life.
    """
    if newest is None:
        return Free(1)
    if newest.ended is not None:
        return Free(newest.epoch + 1)
    if is_proven_dead or now_s - newest.alive_s > stale_s:
        return TakeOver(newest.epoch + 1, newest)
    return Held(newest)


def newest_claim(blobs: Blobs, batch: str) -> SeenClaim | None:
    """The claim that owns, or last owned, a batch; None if it never ran."""
    epochs = [
        int(match["epoch"])
        for key in blobs.list(f"claims/{batch}/")
        if (match := _CLAIM.fullmatch(key.rpartition("/")[2]))
    ]
    return read_claim(blobs, batch, max(epochs)) if epochs else None


def read_claim(blobs: Blobs, batch: str, epoch: int) -> SeenClaim | None:
    """The claim of one run with its latest heartbeat; None if there is no such run."""
    claim = _read(blobs, claim_key(batch, epoch))
    if claim is None:
        return None
    heartbeat = _read(blobs, claim_key(batch, epoch, "heartbeat")) or {}
    try:
        return SeenClaim(
            epoch=epoch,
            owner=Process(**claim["owner"]),
            started_s=float(claim["started_s"]),
            alive_s=float(heartbeat.get("alive_s", claim["started_s"])),
            ended=_read(blobs, claim_key(batch, epoch, "ended")),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        key = claim_key(batch, epoch)
        raise StoreUnusable(f"{key} is not a claim ({error}); see what wrote it") from error


def claimed_batches(blobs: Blobs) -> list[str]:
    """The name of every batch that ever ran."""
    return sorted({key.split("/")[1] for key in blobs.list("claims/")})


def not_ended(blobs: Blobs) -> Mapping[str, SeenClaim]:
    """The newest claim of every batch whose last run has not said that it ended, by batch.

    One listing, and a look at these few: a store that is years old has thousands of batches.
    """
    keys = set(blobs.list("claims/"))
    newest: dict[str, int] = {}
    for key in keys:
        _, batch, name = key.split("/", 2)
        if match := _CLAIM.fullmatch(name):
            newest[batch] = max(newest.get(batch, 0), int(match["epoch"]))
    found = {
        batch: read_claim(blobs, batch, epoch)
        for batch, epoch in newest.items()
        if claim_key(batch, epoch, "ended") not in keys
    }
    return {batch: claim for batch, claim in found.items() if claim is not None}


def claim_json(owner: Process, started_s: float) -> bytes:
    """The content of a claim."""
    return _encoded({"owner": asdict(owner), "started_s": started_s})


def claim_key(batch: str, epoch: int, part: str = "") -> str:
    """Where a claim lies, or its ``heartbeat``, ``stop`` or ``ended`` part."""
    return f"claims/{batch}/{epoch:06d}.{part + '.' if part else ''}json"


def request_stop(blobs: Blobs, batch: str, *, now: bool, requested_s: float) -> SeenClaim | None:
    """Ask the run that works on ``batch`` to stop; None if nobody does.

    The request lies in the store until the run finds it, a few seconds later; a second one
    replaces the first.
    """
    claim = newest_claim(blobs, batch)
    if claim is None or claim.ended is not None:
        return None
    request = StopRequest(now=now, requested_s=requested_s)
    blobs.put(claim_key(batch, claim.epoch, "stop"), _encoded(asdict(request)))
    return claim


def read_stop(blobs: Blobs, batch: str, epoch: int) -> StopRequest | None:
    """The request to stop this run, if there is one."""
    request = _read(blobs, claim_key(batch, epoch, "stop"))
    if request is None:
        return None
    try:
        requested_s = float(request.get("requested_s", 0))
    except (TypeError, ValueError, OverflowError):
        requested_s = (
            0.0  # edited by hand: when it was asked tells nobody anything, that it was does
        )
    return StopRequest(now=request.get("now") is True, requested_s=requested_s)


def write_heartbeat(blobs: Blobs, batch: str, epoch: int, *, alive_s: float) -> None:
    """Say that the run is alive."""
    blobs.put(claim_key(batch, epoch, "heartbeat"), _encoded({"alive_s": alive_s}))


def write_ended(blobs: Blobs, batch: str, epoch: int, outcome: Mapping[str, Any]) -> None:
    """Say that the run is over; said once, the first word counts."""
    blobs.create(claim_key(batch, epoch, "ended"), _encoded(outcome))


def ended_in_order(blobs: Blobs, batch: str, epoch: int) -> bool:
    """Whether the run said how it ended, which it does after everything was committed."""
    ended = _read(blobs, claim_key(batch, epoch, "ended"))
    return ended is not None and ended.get("exit_code") is not None


def _encoded(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, indent=1).encode()


def _read(blobs: Blobs, key: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(blobs.get(key))
    except KeyError:
        return None
    except (ValueError, RecursionError) as error:
        raise StoreUnusable(f"{key} is damaged ({error}); remove it to go on") from error
    if not isinstance(entry, dict):
        raise StoreUnusable(f"{key} is damaged (not an object); remove it to go on")
    return entry


def _ago(seconds: float) -> str:
    seconds = max(0.0, seconds)
    for unit_s, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
