"""The line of a simulated machine: an HTTP proxy that lets through so many megabits a second.

Everything on the machine that fetches (provisioning, curl, git, pip) takes it from ``http_proxy``,
so none of it needs to know that its line is played. What comes over SSH does not pass here.
"""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import urlsplit

from nightkiln.testing.vast_machine.meter import Meter

HOST = "127.0.0.1"
CHUNK_BYTES = 64 * 1024
HEAD_BYTES_MAX = 64 * 1024
BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Line:
    """One machine's, shared by all that it fetches at a time."""

    def __init__(self, mbps: float, meter: Meter) -> None:
        self._bytes_per_s, self._meter = mbps * 1e6 / 8, meter
        self._free_at_s = 0.0

    async def pass_down(self, count: int) -> None:
        """Take the time that so many bytes need."""
        self._meter.came(count)
        now_s = asyncio.get_running_loop().time()
        self._free_at_s = max(now_s, self._free_at_s) + count / self._bytes_per_s
        await asyncio.sleep(self._free_at_s - now_s)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = await reader.readuntil(b"\r\n\r\n")
            await self._carry(head, reader, writer)
        writer.close()

    async def _carry(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        method, target, rest = head.split(b" ", 2)
        is_tunnel = method == b"CONNECT"
        address = urlsplit(("//" if is_tunnel else "") + target.decode("latin-1"))
        try:
            from_host, to_host = await asyncio.open_connection(address.hostname, address.port or 80)
        except OSError:
            writer.write(BAD_GATEWAY)
            return
        if is_tunnel:
            writer.write(ESTABLISHED)
        else:
            to_host.write(_for_host(method, address.path, address.query, rest))
        up = asyncio.create_task(_pump(reader, to_host))
        try:
            while chunk := await from_host.read(CHUNK_BYTES):
                await self.pass_down(len(chunk))
                writer.write(chunk)
                await writer.drain()
        finally:
            up.cancel()
            await asyncio.gather(up, return_exceptions=True)
            to_host.close()


def _for_host(method: bytes, path: str, query: str, rest: bytes) -> bytes:
    """The request's head as the host wants it; one request a connection, so none is missed."""
    target = (path or "/") + (f"?{query}" if query else "")
    version, *fields = rest.removesuffix(b"\r\n\r\n").split(b"\r\n")
    kept = [f for f in fields if not f.lower().startswith((b"connection:", b"proxy-"))]
    first = b" ".join([method, target.encode("latin-1"), version])
    return b"\r\n".join([first, *kept, b"Connection: close", b"", b""])


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await source.read(CHUNK_BYTES):
            sink.write(chunk)
            await sink.drain()


async def open_line(mbps: float, meter: Meter) -> asyncio.Server:
    """Listen for a machine's requests, on a port of its own choice."""
    return await asyncio.start_server(Line(mbps, meter).serve, HOST, 0, limit=HEAD_BYTES_MAX)
