"""A port whose packets are dropped: connecting to it is neither accepted nor refused."""

from __future__ import annotations

import contextlib
import select
import socket

FILL_MAX = 8
FULL_S = 0.1  # a handshake on loopback takes microseconds


class BlackHole:
    """Listens and never accepts, with a full queue: whoever connects meets a timeout."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def open(self) -> int:
        """The port."""
        listener = socket.socket()
        self._sockets.append(listener)
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(FILL_MAX):
            if not self._joins(address):
                break
        return int(address[1])

    def _joins(self, address: tuple[str, int]) -> bool:
        """Whether one more got a place in the queue."""
        caller = socket.socket()
        self._sockets.append(caller)
        caller.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            caller.connect(address)
        _, ready, _ = select.select([], [caller], [], FULL_S)
        return bool(ready)

    def close(self) -> None:
        for each in self._sockets:
            each.close()
        self._sockets.clear()
