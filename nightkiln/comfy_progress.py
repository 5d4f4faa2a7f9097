"""Listens, while a render is slow, for signs that the worker still moves.

Sampler steps and node changes are told to every websocket of a ComfyUI; what was missed is never
replayed, so a sign only ever proves life. Used for nothing else: results come over HTTP.
"""

from __future__ import annotations

import asyncio
import json
from typing import Final

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

MESSAGE_BYTES_MAX = 16 * 1024 * 1024  # previews come the same way
SIGNS: Final = frozenset({"progress", "progress_state", "executing", "execution_start"})
RECONNECT_S = 2.0


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
