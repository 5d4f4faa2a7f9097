"""Stands between a client and an S3 server on loopback, and lets things go wrong.

What goes wrong is chosen request by request: by a list of faults, each for some requests and so
many times, or by a function that sees every request before and after it is carried out.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from io import BytesIO
from urllib.parse import unquote

from aiohttp import ClientSession, DummyCookieJar, web
from yarl import URL

from nightkiln.blobs.s3 import S3Blobs
from nightkiln.blobs.s3_place import S3Place
from nightkiln.testing.s3_server import S3Server

BODY_BYTES_MAX = 2**30
START_S_MAX = 10.0
_HOP = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}
)


class Way(StrEnum):
    """How a request goes wrong."""

    REFUSED = "500 instead of an answer"
    BUSY = "503 SlowDown instead of an answer"
    SILENT = "no answer at all"
    DROPPED = "the connection breaks before the request is carried out"
    LOST = "the request is carried out, the connection breaks before the answer"
    SHORT = "the connection breaks in the middle of the answer"
    OVERWRITES = "what is there is overwritten, whatever the condition says"
    BELIEVES = "whatever is brought is said to be taken, and is not looked at"


@dataclass(slots=True)
class Fault:
    """A way in which some requests go wrong, so many times."""

    way: Way
    method: str = ""  # "" is any
    key: str = ""  # part of the path; "" is any
    times: int = 1

    def takes(self, asked: Asked) -> bool:
        """Whether ``asked`` goes wrong; if so, it has."""
        is_meant = self.method in {"", asked.method} and self.key in asked.path
        if not self.times or not is_meant:
            return False
        self.times -= 1
        return True


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    method: str
    path: str  # with its query
    size: int  # bytes of its body


@dataclass(slots=True)
class S3Proxy:
    """A proxy that runs. Made by ``s3_proxy``."""

    server: S3Server
    url: str = ""
    faults: list[Fault] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)  # every request, in order
    before: Callable[[Asked], Way | None] = lambda _: None
    after: Callable[[Asked], None] = lambda _: None
    bytes_out: int = 0  # bodies of answers
    _session: ClientSession | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Carry one request to the server and its answer back, or let it go wrong."""
        body = await request.read()
        asked = Asked(request.method, unquote(request.raw_path), len(body))
        self.asked.append(asked)
        way = next((each.way for each in self.faults if each.takes(asked)), None)
        way = way if way is not None else self.before(asked)
        if way in {Way.REFUSED, Way.BUSY}:
            return _refusal(way)
        if way is Way.SILENT:
            await asyncio.Event().wait()  # until the client has had enough
        if way is Way.DROPPED:
            return _broken(request)
        if way is Way.BELIEVES:
            return web.Response()
        if way is Way.OVERWRITES:
            bucket, _, key = unquote(request.path).strip("/").partition("/")
            there = S3Blobs(S3Place(bucket, ""), self.server.access)
            await asyncio.to_thread(there.remove, key)
        status, headers, answer = await self._forward(request, body)
        self.after(asked)
        self.bytes_out += len(answer)
        if way is Way.LOST:
            return _broken(request)
        if way is Way.SHORT and answer:
            return await _short(request, status, headers, answer)
        return web.Response(status=status, headers=headers, body=answer)

    async def _forward(
        self, request: web.Request, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        assert self._session is not None, "asked before it was started"
        headers = {name: value for name, value in request.headers.items() if name != "Expect"}
        async with self._session.request(
            request.method,
            URL(self.server.url + request.raw_path, encoded=True),
            headers=headers,  # with the host that was signed
            data=BytesIO(body),
            allow_redirects=False,
        ) as answer:
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}
            if request.method == "HEAD":
                kept["Content-Length"] = answer.headers.get("Content-Length", "0")
            return answer.status, kept, await answer.read()

    async def run(self, is_ready: threading.Event, is_over: asyncio.Event) -> None:
        """Answer until it is over."""
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        async with ClientSession(auto_decompress=False, cookie_jar=DummyCookieJar()) as session:
            self._session = session
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            is_ready.set()
            try:
                await is_over.wait()
            finally:
                await runner.cleanup()


@contextmanager
def s3_proxy(server: S3Server, *faults: Fault) -> Iterator[S3Proxy]:
    """A proxy in front of ``server``, in a thread of its own."""
    proxy, is_ready, is_over = (
        S3Proxy(server, faults=list(faults)),
        threading.Event(),
        asyncio.Event(),
    )
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        loops.append(asyncio.get_running_loop())
        await proxy.run(is_ready, is_over)

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="s3 proxy", daemon=True)
    thread.start()
    if not is_ready.wait(START_S_MAX):
        raise RuntimeError("the proxy did not start")
    try:
        yield proxy
    finally:
        loops[0].call_soon_threadsafe(is_over.set)
        thread.join(START_S_MAX)


def _refusal(way: Way) -> web.Response:
    status, code = (500, "InternalError") if way is Way.REFUSED else (503, "SlowDown")
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>try again</Message></Error>"
    return web.Response(status=status, text=body, content_type="application/xml")


def _broken(request: web.Request) -> web.Response:
    assert request.transport is not None, "it has just been read from"
    request.transport.abort()
    return web.Response()


async def _short(
    request: web.Request, status: int, headers: dict[str, str], answer: bytes
) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = len(answer)
    await response.prepare(request)
    await response.write(answer[: len(answer) // 2])
    assert request.transport is not None, "it has just been written to"
    request.transport.close()
    return response
