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
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from io import BytesIO
from urllib.parse import unquote

from aiohttp import ClientSession, DummyCookieJar, web
from botocore.auth import SIGV4_TIMESTAMP, S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from yarl import URL

from nightkiln.testing.s3_server import S3Server

BODY_BYTES_MAX = 2**30
START_S_MAX = 10.0
CONDITION, REGION = "if-none-match", "us-east-1"
_HOP = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}
)


class Way(StrEnum):
    """How a request goes wrong."""

    REFUSED = "500 instead of an answer"
    BUSY = "503 SlowDown instead of an answer"
    FORBIDDEN = "403 AccessDenied instead of an answer"
    SILENT = "no answer at all"
    DROPPED = "the connection breaks before the request is carried out"
    LOST = "the request is carried out, the connection breaks before the answer"
    SHORT = "the connection breaks in the middle of the answer"
    DAMAGED = "a byte of what is brought, else of the answer, is another one"
    OVERWRITES = "the condition is left out, so that what is there is overwritten"
    BELIEVES = "whatever is brought is said to be taken, and is not looked at"


REFUSALS = {
    Way.REFUSED: (500, "InternalError"),
    Way.BUSY: (503, "SlowDown"),
    Way.FORBIDDEN: (403, "AccessDenied"),
}


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
    clock_s: float = 0.0  # how much the server's clock is ahead of its clients'
    _session: ClientSession | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Carry one request to the server and its answer back, or let it go wrong."""
        body = await request.read()
        asked = Asked(request.method, unquote(request.raw_path), len(body))
        self.asked.append(asked)
        way = next((each.way for each in self.faults if each.takes(asked)), None)
        way = way if way is not None else self.before(asked)
        if way is not None and way in REFUSALS:
            return _refusal(*REFUSALS[way])
        if way is Way.SILENT:
            await asyncio.Event().wait()  # until the client has had enough
        if way is Way.DROPPED:
            return _broken(request)
        if way is Way.BELIEVES:
            return web.Response()
        sent = _damaged(body) if way is Way.DAMAGED else body
        status, headers, answer = await self._forward(request, sent, is_bare=way is Way.OVERWRITES)
        answer = _damaged(answer) if way is Way.DAMAGED and not body else answer
        self.after(asked)
        self.bytes_out += len(answer)
        if way is Way.LOST:
            return _broken(request)
        if way is Way.SHORT and answer:
            return await _short(request, status, headers, answer)
        return web.Response(status=status, headers=headers, body=answer)

    async def _forward(
        self, request: web.Request, body: bytes, *, is_bare: bool
    ) -> tuple[int, dict[str, str], bytes]:
        assert self._session is not None, "asked before it was started"
        left_out = {"expect", CONDITION} if is_bare else {"expect"}
        headers = {k: v for k, v in request.headers.items() if k.lower() not in left_out}
        if is_bare or self.clock_s:
            headers = self._signed(request, body, headers)
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

    def _signed(self, request: web.Request, body: bytes, headers: dict[str, str]) -> dict[str, str]:
        """Signed anew, as the client would have with its clock and these headers."""
        access = self.server.access
        asked = AWSRequest(
            request.method, self.server.url + request.raw_path, headers=headers, data=body
        )
        named = Credentials(access.access_key_id, access.secret_access_key)
        _Signature(named, "s3", REGION, behind_s=self.clock_s).add_auth(asked)
        return dict(asked.headers.items())

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


class _Signature(S3SigV4Auth):  # type: ignore[misc]
    """Signs by a clock that is behind."""

    def __init__(self, *named: object, behind_s: float) -> None:
        super().__init__(*named)
        self._behind_s = behind_s

    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        then = datetime.now(UTC) - timedelta(seconds=self._behind_s)
        request.context["timestamp"] = then.strftime(SIGV4_TIMESTAMP)
        super()._modify_request_before_signing(request)


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


def _damaged(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if data else data


def _refusal(status: int, code: str) -> web.Response:
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
