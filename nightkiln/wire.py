"""Requests to one worker, on httpx's transport.

What httpx.AsyncClient adds above it - cookies, redirects, credentials and proxies of the
environment, decoding - has no business with a machine that is not trusted, and is a third of what
a small request costs the event loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

TIMEOUT_S = 5.0  # to connect, for a connection to be free, and for each piece sent or received
CONNECTIONS_MAX = 16  # slots x (poll + download), with room

# What a worker sends is stored and checked as it comes.
_HEADERS = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "nightkiln"}


class Wire:
    """Connections to the server at ``url`` (scheme, host, port, and path if it has one)."""

    def __init__(self, url: str, *, connections_max: int = CONNECTIONS_MAX) -> None:
        self.url = url.rstrip("/")
        limits = httpx.Limits(max_connections=connections_max)
        self._transport = httpx.AsyncHTTPTransport(limits=limits, trust_env=False)

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, *, timeout_s: float = TIMEOUT_S, **body: Any
    ) -> AsyncIterator[httpx.Response]:
        """One request; its response, to be read inside the block.

        ``body`` is what httpx.Request takes: content, json, data, files, params.

        Raises:
            httpx.TransportError: nothing, or nothing whole, came back.
        """
        extensions = {"timeout": httpx.Timeout(timeout_s).as_dict()}
        request = httpx.Request(
            method, self.url + path, headers=_HEADERS, extensions=extensions, **body
        )
        response = await self._transport.handle_async_request(request)
        try:
            yield response
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        """Hang up. Idempotent."""
        await self._transport.aclose()
