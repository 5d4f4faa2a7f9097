"""Requests to one worker: httpx's words, aiohttp's engine.

The event loop that asks every worker is the controller's narrowest place. What httpx.AsyncClient
adds - cookies, redirects, credentials and proxies of the environment, decoding - has no business
with a machine that is not trusted, and the transport below it takes three times as long for a
small request as aiohttp, whose parser is C. So bodies, responses and errors are httpx's, which the
rest of the adapter speaks, and only the connections are aiohttp's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import aiohttp
import httpx
from yarl import URL

ANSWER_S_MAX = 20.0  # one small call; a busy server loads models and encodes on its event loop
CONNECT_S_MAX = 5.0  # the system takes connections, however busy the server behind it is
CONNECTIONS_MAX = 16  # slots x (poll + download), with room
IDLE_S_MAX = 5.0  # then a connection is closed; servers keep them longer

# What a worker sends is stored and checked as it comes.
_HEADERS = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "nightkiln"}
_JSON_HEADERS = {**_HEADERS, "content-type": "application/json"}


async def _always() -> None:
    """The way to a server is open at all times."""


class Wire:
    """Connections to the server at ``url`` (scheme, host, port, and path if it has one).

    ``ready`` returns once the way to the server is open, where that way is one that has to be
    mended now and then. Whoever asks awaits it first, so that mending is nobody's answer time.
    """

    def __init__(
        self,
        url: str,
        *,
        connections_max: int = CONNECTIONS_MAX,
        ready: Callable[[], Awaitable[None]] = _always,
    ) -> None:
        self.url = url.rstrip("/")
        self.ready = ready
        self._connections_max = connections_max
        self._opened: aiohttp.ClientSession | None = None  # belongs to the loop of the first call
        self._is_closed = False

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        timeout_s: float = ANSWER_S_MAX,
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
        **body: Any,
    ) -> AsyncIterator[httpx.Response]:
        """One request; its response, to be read inside the block.

        ``content`` is JSON already; ``body`` is what httpx.Request encodes: json, data, files.
        ``timeout_s`` is for a connection, then for the request sent and its head received, then
        for each piece.

        Raises:
            httpx.TransportError: nothing, or nothing whole, came back.
        """
        if self._is_closed:  # by whoever ends the lease, while a job is still being handed back
            raise httpx.ConnectError("this connection is closed")
        url = self.url + path + ("?" + urlencode(params) if params is not None else "")
        headers = _HEADERS if content is None else _JSON_HEADERS
        if body:
            request = httpx.Request(method, url, headers=_HEADERS, **body)
            headers, content = dict(request.headers), request.read()
        timeout = aiohttp.ClientTimeout(
            connect=timeout_s,
            sock_connect=min(timeout_s, CONNECT_S_MAX),
            sock_read=timeout_s,
        )
        try:
            # The engine has no bound of its own on a peer that does not take what is sent.
            async with asyncio.timeout(2 * timeout_s):
                response = await self._session().request(
                    method,
                    URL(url, encoded=True),
                    data=content,
                    headers=headers,
                    allow_redirects=False,
                    timeout=timeout,
                )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _translated(error) from error
        async with response:
            yield httpx.Response(
                response.status, headers=response.raw_headers, stream=_Body(response.content)
            )

    def _session(self) -> aiohttp.ClientSession:
        if self._opened is None:
            is_secure = self.url.startswith("https:")
            self._opened = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._connections_max,
                    keepalive_timeout=IDLE_S_MAX,
                    ssl=httpx.create_ssl_context(trust_env=False) if is_secure else False,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._opened

    async def aclose(self) -> None:
        """Hang up; whoever asks after that gets no answer. Idempotent."""
        self._is_closed = True
        if self._opened is not None:
            await self._opened.close()


class _Body(httpx.AsyncByteStream):
    """What a response holds, in pieces as they arrive."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._content.iter_any():
                yield piece
        except (aiohttp.ClientError, OSError) as error:
            raise _translated(error) from error


def _translated(error: Exception) -> httpx.TransportError:
    """The engine's error in httpx's words; what never reached the server is a connect error."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            kind: type[httpx.TransportError] = httpx.ConnectTimeout
        case aiohttp.ClientConnectorError():
            kind = httpx.ConnectError
        case TimeoutError():
            kind = httpx.ReadTimeout
        case aiohttp.InvalidURL() | ValueError():
            kind = httpx.UnsupportedProtocol
        case aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError():
            kind = httpx.RemoteProtocolError
        case aiohttp.ClientResponseError():  # no HTTP
            kind = httpx.RemoteProtocolError
        case _:
            kind = httpx.ReadError
    return kind(f"{error}" or type(error).__name__)
