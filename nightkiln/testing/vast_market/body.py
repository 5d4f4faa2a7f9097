"""What is behind a rented machine: the seam, and the barest body that fills it.

The market tells a body what happens to its machine and knows nothing of how it is made. ``Bare``
listens and says nothing, which is enough to test the API; ``ssh_body`` is a whole machine.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from nightkiln.testing.market import AttemptTruth

HOST = "127.0.0.1"  # never anything else: a simulated machine is for this computer only


@dataclass(frozen=True, slots=True)
class Box:
    """What a body is made for: the order, and the machine as it truly is."""

    contract: int
    image: str
    env: Mapping[str, str]  # of the container, with what the service adds
    onstart: str
    api_url: str
    api_key: str  # the container's own: it may start, stop and destroy itself
    gpu: str
    gpu_mb: int
    gpu_free_mb: int
    cuda: str
    disk_gb: float  # as it is, which may be less than was asked for
    mbps: float  # true, downwards
    seconds_per_job: float  # by the wall
    app_s: float  # by the wall, from its launch until its ComfyUI answers
    trouble: frozenset[str]  # names of faults that the body plays
    attempt: Callable[[str, int], AttemptTruth]  # what becomes of a job's n-th try, as drawn


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went over a machine's line so far, without the image."""

    bytes_in: int
    bytes_out: int


class Body(Protocol):
    """A machine's inside. Calls come one after the other, each after the former has returned."""

    async def start(self) -> int:
        """Bring it up for the first time; its SSH port on loopback."""

    async def freeze(self) -> None:
        """Nothing answers from now on, and nothing inside runs."""

    async def thaw(self) -> None:
        """Go on where it was frozen."""

    async def reboot(self) -> int:
        """Start anew on the same disk, also after ``stop``; its SSH port, perhaps another."""

    async def stop(self) -> None:
        """End everything of it. May be called twice; what is on its disk stays until then."""


@runtime_checkable
class Metered(Protocol):
    """A body that knows its traffic; else what the night draws is billed."""

    def traffic(self) -> Traffic:
        """Bytes since it was made; still known after ``stop``."""


@runtime_checkable
class Disposable(Protocol):
    """A body whose disk outlives ``stop``."""

    async def discard(self) -> None:
        """Throw its disk away: the machine was destroyed, or the market closes."""


Bodies: TypeAlias = Callable[[Box], Body]


class Bare:
    """A socket that takes connections and says nothing."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._listen, HOST, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with contextlib.suppress(ConnectionError):
            await reader.read()  # until the other side has had enough
        self._open.discard(writer)
        writer.close()

    async def freeze(self) -> None:
        """It never says anything anyway."""

    async def thaw(self) -> None:
        """It never says anything anyway."""

    async def reboot(self) -> int:
        await self.stop()
        return await self.start()

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        await self._server.wait_closed()
        self._server = None
