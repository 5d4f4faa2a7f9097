"""What went over a machine's line, as its host would bill it: told in a file that outlives it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

EVERY_S = 0.25
# struct tcp_info of Linux: bytes acknowledged and received stand behind 120 bytes of the rest.
_TCP_INFO = struct.Struct("120xQQ")


class Bytes(NamedTuple):
    """Into the machine and out of it."""

    bytes_in: int
    bytes_out: int

    def plus(self, other: Bytes) -> Bytes:
        return Bytes(self.bytes_in + other.bytes_in, self.bytes_out + other.bytes_out)


class Socket(Protocol):
    """As much of a socket as is looked at."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes: ...


NOTHING = Bytes(0, 0)


class Meter:
    """Adds up what open connections have carried and what closed ones did."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._over = read(path)  # before the last reboot
        self._open: dict[Socket, Bytes] = {}
        self._told = NOTHING

    def opened(self, connection: Socket) -> Callable[[], None]:
        """Count a connection from now on; call the answer when it is over."""
        self._open[connection] = NOTHING

        def closed() -> None:
            self._over = self._over.plus(self._open.pop(connection))

        return closed

    def came(self, count: int) -> None:
        """So many bytes came in by another way."""
        self._over = self._over.plus(Bytes(count, 0))

    async def keep_telling(self) -> None:
        """Write it down for as long as the machine runs."""
        while True:
            self.tell()
            await asyncio.sleep(EVERY_S)

    def tell(self) -> None:
        """Write down what is new."""
        total = self._over
        for connection in self._open:
            with contextlib.suppress(OSError):  # it is being closed: what was last seen counts
                self._open[connection] = carried(connection)
            total = total.plus(self._open[connection])
        if total != self._told:
            self._told = total
            new = self._path.with_suffix(".new")
            new.write_text(json.dumps(total))
            new.replace(self._path)


def carried(connection: Socket) -> Bytes:
    """What a TCP connection has carried, asked of the kernel: it costs nothing per byte."""
    told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    acknowledged, received = _TCP_INFO.unpack(told)
    return Bytes(received, acknowledged)


def read(path: Path) -> Bytes:
    """What a machine has written down so far."""
    if not path.exists():
        return NOTHING
    bytes_in, bytes_out = json.loads(path.read_text())
    return Bytes(bytes_in, bytes_out)
