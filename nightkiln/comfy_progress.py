"""Tells whether a worker still moves: by its queue and, while a render is slow, by listening.

Sampler steps and node changes are told to every websocket of a ComfyUI; what was missed is never
replayed, so a sign only ever proves life. Used for nothing else: results come over HTTP.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

MESSAGE_BYTES_MAX = 16 * 1024 * 1024  # previews come the same way
SIGNS: Final = frozenset({"progress", "progress_state", "executing", "execution_start"})
RECONNECT_S = 2.0
OTHERS_S_MAX = 3600.0  # one job of another client's; of most of them no sign can be heard


@dataclass(slots=True)
class Quiet:
    """Since when a worker has shown no progress, as far as its queue tells.

    On a server that others use, too, a job of ours may wait behind theirs. That time is theirs:
    their jobs may be of any length, and their progress is mostly told to them alone.
    """

    since_s: float  # loop time from which on our oldest job could have got on
    others: frozenset[str] = frozenset()  # jobs that ran ahead of ours at the last look
    others_since_s: float = 0.0

    def look(
        self,
        ticket: str,
        *,
        ours: Collection[str],
        running: frozenset[str],
        waiting: frozenset[str],
        now_s: float,
    ) -> None:
        """Note what the queue shows of our oldest job, ``ticket``."""
        is_behind = ticket in waiting and running.isdisjoint(ours)
        others = running if is_behind else frozenset()
        if others != self.others:
            self.others, self.others_since_s = others, now_s
        if others:
            self.since_s = now_s

    @property
    def began_s(self) -> float:
        """When whatever is to get on now began."""
        return self.others_since_s if self.others else self.since_s

    def limit_s(self, stall_s: float) -> float:
        """How long it may be quiet, if a job of ours may be so for ``stall_s``."""
        return max(OTHERS_S_MAX, stall_s) if self.others else stall_s


class ProgressWatch:
    """Notes when the worker last showed progress, from ``start`` to ``stop``."""

    def __init__(self, base_url: str) -> None:
        self._url = base_url.rstrip("/").replace("http", "ws", 1) + "/ws?clientId=nightkiln-watch"
        self._task: asyncio.Task[None] | None = None
        self.progressed_s = float("-inf")  # loop time of the last sign

    def start(self) -> None:
        """Begin to listen, unless already listening."""
        if self._task is None:
            self._task = asyncio.create_task(self._listen(), name="progress watch")

    def stop(self) -> None:
        """Stop listening. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _listen(self) -> None:
        while True:
            try:
                async with connect(self._url, max_size=MESSAGE_BYTES_MAX, proxy=None) as socket:
                    async for message in socket:
                        if isinstance(message, str) and _is_sign(message):
                            self.progressed_s = asyncio.get_running_loop().time()
            except (OSError, TimeoutError, WebSocketException):
                pass  # no sign is no sign, whatever the reason; HTTP tells whether it is gone
            await asyncio.sleep(RECONNECT_S)


def _is_sign(message: str) -> bool:
    try:
        kind = json.loads(message).get("type")
    except (ValueError, AttributeError, RecursionError):
        return False
    return kind in SIGNS
