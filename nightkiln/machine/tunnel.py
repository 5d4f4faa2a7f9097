"""A loopback port that leads to a port inside the machine, over whichever connection there is.

The port stays the same while the SSH connection below it comes and goes, so that whoever polls a
job through it needs to know nothing of that. While there is no connection, callers are hung up on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import cast

import asyncssh

OPEN_S_MAX = 15.0  # until the machine has opened its end
CALLERS_MAX = 64  # at once; our own requests are far fewer


class Tunnel:
    """Listens on a random port of 127.0.0.1."""

    def __init__(
        self, connection: Callable[[], asyncssh.SSHClientConnection | None], *, to_port: int
    ) -> None:
        self._connection, self._to_port = connection, to_port
        self._server: asyncio.Server | None = None
        self.callers: set[_Caller] = set()
        self.port = 0

    async def open(self) -> None:
        """Begin to listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Caller(self), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Stop listening and hang up on everybody. Idempotent."""
        if self._server is not None:
            self._server.close()
        for caller in list(self.callers):
            caller.hang_up()

    async def channel(self, session: _Inside) -> None:
        """Open a way to the port inside the machine.

        Raises:
            asyncssh.Error, TimeoutError, OSError: there is none now.
        """
        connection = self._connection()
        if connection is None:
            raise ConnectionResetError
        async with asyncio.timeout(OPEN_S_MAX):
            await connection.create_connection(lambda: session, "127.0.0.1", self._to_port)


class _Caller(asyncio.Protocol):
    """One connection to our port."""

    def __init__(self, tunnel: Tunnel) -> None:
        self._tunnel = tunnel
        self._transport: asyncio.Transport | None = None
        self._joining: asyncio.Task[None] | None = None
        self._inside = _Inside(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if len(self._tunnel.callers) >= CALLERS_MAX:
            self._transport.abort()
            return
        self._tunnel.callers.add(self)
        self._transport.pause_reading()
        self._joining = asyncio.create_task(self._join(), name="tunnel")

    async def _join(self) -> None:
        try:
            await self._tunnel.channel(self._inside)
        except (asyncssh.Error, TimeoutError, OSError):
            self.hang_up()
        else:
            self.resume()

    def data_received(self, data: bytes) -> None:
        self._inside.write(data)

    def eof_received(self) -> bool:
        return False  # HTTP has no half-closed connections: close both ends

    def pause_writing(self) -> None:
        self._inside.pause()

    def resume_writing(self) -> None:
        self._inside.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._tunnel.callers.discard(self)
        self._transport = None
        if self._joining is not None:
            self._joining.cancel()
        self._inside.hang_up()

    @property
    def is_gone(self) -> bool:
        return self._transport is None

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def pause(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def end(self) -> None:
        """All has been said: close once what was said is sent."""
        if self._transport is not None:
            self._transport.close()

    def hang_up(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()


class _Inside(asyncssh.SSHTCPSession[bytes]):
    """The same connection's other half, inside the machine."""

    def __init__(self, caller: _Caller) -> None:
        self._caller = caller
        self._channel: asyncssh.SSHTCPChannel[bytes] | None = None

    def connection_made(self, chan: asyncssh.SSHTCPChannel[bytes]) -> None:
        self._channel = chan
        if self._caller.is_gone:  # while the machine took its time
            chan.abort()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        del datatype
        self._caller.write(data)

    def eof_received(self) -> bool:
        self._caller.end()
        return False

    def pause_writing(self) -> None:
        self._caller.pause()

    def resume_writing(self) -> None:
        self._caller.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self._channel = None
        if exc is None:
            self._caller.end()
        else:
            self._caller.hang_up()

    def write(self, data: bytes) -> None:
        if self._channel is not None:
            with contextlib.suppress(OSError):  # closed by the machine; we are about to be told
                self._channel.write(data)

    def pause(self) -> None:
        if self._channel is not None:
            self._channel.pause_reading()

    def resume(self) -> None:
        if self._channel is not None:
            self._channel.resume_reading()

    def hang_up(self) -> None:
        if self._channel is not None:
            self._channel.abort()
