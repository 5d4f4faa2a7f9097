"""Waiting for a ComfyUI that is still coming up."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from nightkiln import comfy_answers as answers
from nightkiln.comfy_http import ComfyServer, Unanswered, parsed
from nightkiln.core.errors import WorkerLost
from nightkiln.wire import Wire

PROBE_EVERY_S = 0.5


@dataclass(slots=True)
class Door:
    """Where somebody knocks until a ComfyUI opens; ``heard`` is what was there instead."""

    wire: Wire
    heard: str = "nothing"

    async def opened(self) -> str:
        """Knock for as long as the caller lets us; the name of the server's GPU."""
        server = ComfyServer(self.wire)
        while True:
            try:
                status, content = await server.exchange("GET", "/system_stats")
                gpu = answers.gpu_name(parsed(content))
                if gpu is not None:
                    return gpu
                self.heard = f"HTTP {status}, but not as a ComfyUI does"
            except (Unanswered, WorkerLost) as error:
                self.heard = str(error)
            await asyncio.sleep(PROBE_EVERY_S)
