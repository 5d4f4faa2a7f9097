"""The connection to one machine: it mends itself, and its loopback port stays the same.

Theory of operation. ``open`` makes first contact, ``keep`` waits for the connection to end and
makes another, until that takes longer than ``reconnect_s_max``. Whoever wants something of the
machine first waits for ``ready``; whatever is cut off is begun again by whoever asked, for all that
we ever ask can be asked twice. Refused or reset means that the host is up, so we wait; nothing but
timeouts for ``broken_s`` means that its network is broken.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path

import asyncssh

from nightkiln.core.errors import WorkerLost
from nightkiln.machine.dial import NotYet, Silent, dial
from nightkiln.machine.keys import BatchKeys
from nightkiln.machine.stay import Address, LinkLimits
from nightkiln.machine.talk import ANSWER_BYTES_MAX, Cut, Endless, Ran, run_once
from nightkiln.machine.tunnel import Tunnel

COMFY_PORT = 18188  # inside the machine, on its loopback interface only
RUN_S_MAX = 30.0
CUTS_MAX = 5  # of one command, then somebody cuts it off on purpose
GOODBYE_S_MAX = 1.0
BROKEN = "the network of the machine is broken: nothing but timeouts"
NOT_MENDED = "the connection to the machine ended and could not be made again"


def _nobody_listens(_: str) -> None:
    """Nobody wants to hear of the connection."""


class Link:
    """An SSH connection and the way to ComfyUI through it. One controller's, for one lease."""

    def __init__(
        self,
        where: Callable[[], Awaitable[Address | None]],
        keys: BatchKeys,
        pin: Path,
        *,
        limits: LinkLimits,
        tell: Callable[[str], None] = _nobody_listens,
    ) -> None:
        self._where, self._keys, self._pin = where, keys, pin
        self._limits, self._tell = limits, tell
        self.heard = ""  # how the last try to connect ended, or that there is a connection
        self._connection: asyncssh.SSHClientConnection | None = None
        self._has_ended: asyncio.Event | None = None  # of that connection
        self._changed = asyncio.Event()  # it came, it went, or it never will again
        self._lost: WorkerLost | None = None
        self._tunnel = Tunnel(lambda: self._connection, to_port=COMFY_PORT)

    @property
    def url(self) -> str:
        """Where the machine's ComfyUI is reached from this computer."""
        return f"http://127.0.0.1:{self._tunnel.port}"

    async def open(self) -> None:
        """Make first contact; the caller bounds the time.

        Raises:
            WorkerLost: it never will be: a broken network, another machine's host key.
        """
        await self._tunnel.open()
        await self._connect()

    async def keep(self) -> None:
        """Mend the connection whenever it ends; returns only by an error.

        Raises:
            WorkerLost: it cannot be mended.
        """
        try:
            while True:
                await self._until(lambda: self._connection is None)
                self._say("cut")
                try:
                    async with asyncio.timeout(self._limits.reconnect_s_max):
                        await self._connect()
                except TimeoutError as error:
                    raise WorkerLost(NOT_MENDED) from error
                self._say("mended")
        except WorkerLost as error:
            self.give_up(error)
            raise

    def give_up(self, error: WorkerLost) -> None:
        """Whoever waits for the connection is told that it will not come."""
        self._lost = error
        self._changed.set()

    async def ready(self) -> None:
        """Wait for the connection, if it is being mended.

        Raises:
            WorkerLost: it could not be.
        """
        await self._until(lambda: self._connection is not None or self._lost is not None)
        if self._lost is not None:
            raise WorkerLost(str(self._lost), loss=self._lost.loss)

    async def run(
        self,
        command: str,
        *,
        stdin: bytes = b"",
        within_s: float = RUN_S_MAX,
        bytes_max: int = ANSWER_BYTES_MAX,
    ) -> Ran:
        """Run a command in the machine's shell that may safely be run twice.

        Raises:
            TimeoutError: it did not end in ``within_s``, time without a connection not counted.
            WorkerLost: no connection any more, or an answer without end.
        """
        for _ in range(CUTS_MAX):
            with contextlib.suppress(Cut):
                return await self.run_once(
                    command, pieces=(stdin,), within_s=within_s, bytes_max=bytes_max
                )
            await asyncio.sleep(self._limits.retry_s)
        raise WorkerLost("the machine cuts off every command")

    async def run_once(
        self,
        command: str,
        *,
        pieces: Iterable[bytes] | AsyncIterator[bytes],
        within_s: float,
        bytes_max: int = ANSWER_BYTES_MAX,
    ) -> Ran:
        """Run a command once; raises like ``run``, or Cut when the connection ended meanwhile."""
        await self.ready()
        assert self._connection is not None
        try:
            async with asyncio.timeout(within_s):
                return await run_once(self._connection, command, pieces=pieces, bytes_max=bytes_max)
        except Endless as error:
            raise WorkerLost("the machine answers a command without end") from error

    async def aclose(self) -> None:
        """Hang up. Idempotent, and done within a second or so."""
        self._tunnel.close()
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.close()
        try:
            async with asyncio.timeout(GOODBYE_S_MAX):
                await connection.wait_closed()
        except TimeoutError:
            return
        finally:
            connection.abort()

    async def _until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            self._changed.clear()
            await self._changed.wait()

    async def _connect(self) -> None:
        """Try until somebody opens."""
        silent_since_s: float | None = None
        while True:
            began_s = asyncio.get_running_loop().time()
            try:
                if await self._try_once():
                    return
            except NotYet as error:
                silent_since_s = None
                self._say(str(error))
            except Silent as error:
                silent_since_s = silent_since_s if silent_since_s is not None else began_s
                self._say(str(error))
                now_s = asyncio.get_running_loop().time()
                if now_s - silent_since_s >= self._limits.broken_s:
                    raise WorkerLost(BROKEN) from error
            await asyncio.sleep(self._limits.retry_s)

    async def _try_once(self) -> bool:
        """Whether there is a connection now."""
        address = await self._where()
        if address is None:
            self._say("no address yet")
            return False
        has_ended = asyncio.Event()  # of this very connection: earlier ones may end late

        def over() -> None:
            has_ended.set()
            if self._has_ended is has_ended:
                self._connection = None
                self._changed.set()

        connection = await dial(
            address, keys=self._keys, pin=self._pin, limits=self._limits, on_lost=over
        )
        if has_ended.is_set():  # while its host key was written down
            return False
        self._connection, self._has_ended = connection, has_ended
        self._changed.set()
        return True

    def _say(self, state: str) -> None:
        """Tell what is new."""
        if state != self.heard:
            self.heard = state
            self._tell(state)
