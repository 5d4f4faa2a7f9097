"""What the connections to a worker say when they break: httpx's errors, whatever lies below."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import httpx
import pytest

from nightkiln.wire import Wire

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"


async def fetched(url: str, *, timeout_s: float = 5.0, content: bytes | None = None) -> bytes:
    """The whole body of one answer."""
    async with (
        aclosing(Wire(url)) as wire,
        wire.stream("POST", "/prompt", timeout_s=timeout_s, content=content) as response,
    ):
        return b"".join([piece async for piece in response.aiter_raw()])


def answered(
    answer: bytes, ask: Callable[[str], Awaitable[bytes]], *, stays: bool = False
) -> tuple[bytes, bytes]:
    """Ask a server that sends ``answer`` and hangs up; what it was asked and what came back."""

    async def run() -> tuple[bytes, bytes]:
        asked = bytearray()
        over = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.extend(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
            if stays:
                await over.wait()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            try:
                got = await ask(f"http://127.0.0.1:{port}")
            finally:
                over.set()
        return bytes(asked), got

    return asyncio.run(run())


def test_a_whole_answer_arrives() -> None:
    asked, got = answered(HEAD + b"0123456789", lambda url: fetched(url, content=b"{}"))

    assert got == b"0123456789"
    assert b"content-type: application/json" in asked.lower()


def test_nobody_listening_is_a_connect_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    with pytest.raises(httpx.ConnectError):
        asyncio.run(fetched(f"http://127.0.0.1:{port}"))


@pytest.mark.parametrize("answer", [b"", HEAD + b"0123", b"SSH-2.0-OpenSSH_9.6\r\n\r\n"])
def test_no_answer_half_an_answer_and_no_http_break_the_protocol(answer: bytes) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        answered(answer, fetched)


@pytest.mark.parametrize("answer", [b"", HEAD + b"0123"])
def test_a_silent_worker_times_out(answer: bytes) -> None:
    with pytest.raises(httpx.ReadTimeout):
        answered(answer, lambda url: fetched(url, timeout_s=0.5), stays=True)


def test_an_address_that_is_none_is_told_as_such() -> None:
    with pytest.raises(httpx.UnsupportedProtocol):
        asyncio.run(fetched("worker-1"))


def test_a_redirect_is_not_followed() -> None:
    away = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"

    _, got = answered(away, fetched)

    assert got == b""


def test_who_asks_after_the_connection_was_closed_gets_no_answer() -> None:
    async def ask() -> None:
        wire = Wire("http://127.0.0.1:9")
        await wire.aclose()
        async with wire.stream("POST", "/interrupt"):
            pass

    with pytest.raises(httpx.ConnectError, match="closed"):
        asyncio.run(ask())
