"""The service's documented limits, kept by all processes of a user together.

    <state>/rates/vast.json   when which endpoint was called last, by account and address

Limits count per key and address, not per process: a run, a reaper and a doctor share them. Whoever
calls takes a turn under a file lock first. A slot that nobody waits for any more is not lost: turns
are taken when they are due, never booked ahead.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from pathlib import Path
from typing import Any

from nightkiln.core.errors import StoreUnusable
from nightkiln.disk import OsDisk, private_folder, trouble
from nightkiln.providers.vast.errors import Kind, VastFailed

FILE_BYTES_MAX = 64 * 1024
LOCK_S_MAX = 10.0  # the lock is held for milliseconds
SPARE = 1.1  # x the documented seconds: the service counts arrivals, we count departures
AHEAD_S_MAX = 3600.0  # a pause that ends later was written under another clock
STEP_S_MAX = 1.0  # a call that is so far ahead, too: the clock has been set back since
FORGET_S = 86_400.0  # an account that was not used for so long


class Endpoint(StrEnum):
    """What the service counts separately."""

    SEARCH = "search"
    CREATE = "create"
    SHOW = "show"
    LIST = "list"
    DESTROY = "destroy"
    CHARGES = "charges"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Pace:
    """So many calls in so many seconds; after a 429 none for a while."""

    calls: int
    seconds: float
    penalty_s: float


PACES = {
    Endpoint.SEARCH: Pace(10, 60.0, 10.0),
    Endpoint.CREATE: Pace(1, 4.5, 12.0),
    Endpoint.SHOW: Pace(1, 2.0, 2.0),
    Endpoint.LIST: Pace(1, 1.0, 1.0),
    Endpoint.DESTROY: Pace(1, 3.0, 3.0),
    Endpoint.CHARGES: Pace(1, 1.0, 1.0),
    Endpoint.USER: Pace(1, 1.0, 1.0),
}


class Rates:
    """Gives out turns. ``key`` and ``url`` say whose limits they are; only a digest is kept."""

    def __init__(
        self, state: Path, *, key: str, url: str, clock: Callable[[], float], pace: float = 1.0
    ) -> None:
        self._path = state / "rates" / "vast.json"
        self._whose = hashlib.sha256(f"{url}\n{key}".encode()).hexdigest()[:16]
        self._clock, self._scale = clock, pace
        self._queues: defaultdict[Endpoint, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def turn(self, endpoint: Endpoint, *, within_s: float) -> None:
        """Wait until ``endpoint`` may be called, first come, first served.

        Raises:
            VastFailed: not within ``within_s``.
            StoreUnusable: the state folder cannot be written.
        """
        try:
            async with asyncio.timeout(within_s), self._queues[endpoint]:
                wait_s = await asyncio.to_thread(self._take, endpoint)
                while wait_s > 0:
                    await asyncio.sleep(wait_s)
                    wait_s = await asyncio.to_thread(self._take, endpoint)
        except TimeoutError:
            said = f"no turn within {within_s:.0f} s"
            raise VastFailed(Kind.RATE_LIMITED, endpoint, said=said) from None

    async def penalise(self, endpoint: Endpoint, retry_after_s: float | None) -> None:
        """After a 429: nobody calls ``endpoint`` for a while; at least for what the service asks.

        Raises:
            StoreUnusable: the state folder cannot be written.
        """
        penalty_s = PACES[endpoint].penalty_s * self._scale
        pause_s = max(penalty_s, retry_after_s if retry_after_s is not None else 0.0)
        await asyncio.to_thread(self._pause, endpoint, min(pause_s, AHEAD_S_MAX))

    def _take(self, endpoint: Endpoint) -> float:
        """Take the turn if it is due: 0; else the seconds to wait before asking again."""
        pace = PACES[endpoint]

        def take(times: dict[str, Any], now_s: float) -> float:
            calls = _times(times.get("calls"), now_s, ahead_s=STEP_S_MAX)[-pace.calls :]
            free_s = max(_times([times.get("not_before")], now_s), default=0.0)
            if len(calls) == pace.calls:
                free_s = max(free_s, calls[0] + pace.seconds * SPARE * self._scale)
            if free_s > now_s:
                return free_s - now_s
            times["calls"] = [*calls, now_s][-pace.calls :]
            return 0.0

        return self._changed(endpoint, take)

    def _pause(self, endpoint: Endpoint, pause_s: float) -> None:
        def pause(times: dict[str, Any], now_s: float) -> float:
            before = max(_times([times.get("not_before")], now_s), default=0.0)
            times["not_before"] = max(before, now_s + pause_s)
            return 0.0

        self._changed(endpoint, pause)

    def _changed(
        self, endpoint: Endpoint, change: Callable[[dict[str, Any], float], float]
    ) -> float:
        """What ``change`` answers, done under the lock that all processes share."""
        from filelock import FileLock, Timeout

        lock = self._path.with_suffix(".lock")
        try:
            private_folder(self._path.parent, OsDisk())
            with FileLock(lock, timeout=LOCK_S_MAX, mode=0o600):
                book, now_s = self._read(), self._clock()
                ours = book.setdefault(self._whose, {})
                answer = change(ours.setdefault(endpoint.value, {}), now_s)
                ours["used_s"] = now_s
                self._write({who: its for who, its in book.items() if _is_recent(its, now_s)})
                return answer
        except Timeout as error:
            raise StoreUnusable(f"{lock} is held by another process; end that process") from error
        except OSError as error:
            raise StoreUnusable(trouble(error, self._path)) from error

    def _read(self) -> dict[str, dict[str, Any]]:
        """What was written last; nothing, where that is damaged."""
        try:
            with self._path.open("rb") as file:
                book = json.loads(file.read(FILE_BYTES_MAX))
        except (FileNotFoundError, ValueError, RecursionError):
            return {}
        if not isinstance(book, dict):
            return {}
        return {who: _tables(its) for who, its in book.items() if isinstance(its, dict)}

    def _write(self, book: dict[str, dict[str, Any]]) -> None:
        draft = self._path.with_suffix(".new")
        # Not synced: after a power cut the limits have long passed.
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:  # noqa: PTH123
            json.dump(book, file)
        draft.replace(self._path)


def _tables(its: dict[str, Any]) -> dict[str, Any]:
    return {name: v for name, v in its.items() if isinstance(v, dict) or name == "used_s"}


def _times(values: Any, now_s: float, *, ahead_s: float = AHEAD_S_MAX) -> list[float]:
    """Times that can be true, oldest first: what is further ahead was written by another clock."""
    found = values if isinstance(values, list) else []
    numbers = [v for v in found if isinstance(v, int | float) and isfinite(v)]
    return sorted(float(v) for v in numbers if v <= now_s + ahead_s)


def _is_recent(its: dict[str, Any], now_s: float) -> bool:
    return any(used_s > now_s - FORGET_S for used_s in _times([its.get("used_s")], now_s))
