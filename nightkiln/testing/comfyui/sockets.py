"""The websockets of the stand-in: who hears what, in order."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from typing import Any

from aiohttp import WSMsgType, web

FEATURES = {"supports_preview_metadata": True, "max_upload_size": 104857600}


class Hub:
    """One socket per client id; the newest wins, and when any of them closes the id is gone."""

    def __init__(self, remaining: Callable[[], int]) -> None:
        self.client_id: str | None = None  # whose prompt is running
        self.node_id: str | None = None  # which node of it
        self._remaining = remaining
        self._sockets: dict[str, web.WebSocketResponse] = {}
        self._messages: asyncio.Queue[tuple[str | bytes, str | None]] = asyncio.Queue()

    @property
    def has_listeners(self) -> bool:
        return bool(self._sockets)

    def send(self, event: str, data: dict[str, Any], *, client_id: str | None = None) -> None:
        """To one client, or to everybody; never waits."""
        if self._sockets:
            message = json.dumps({"type": event, "data": data})
            self._messages.put_nowait((message, client_id))

    def send_bytes(self, data: bytes, *, client_id: str) -> None:
        if self._sockets:
            self._messages.put_nowait((data, client_id))

    def status(self, remaining: int) -> None:
        """Tell everybody how much is left to do."""
        self.send("status", {"status": {"exec_info": {"queue_remaining": remaining}}})

    async def publish(self) -> None:
        """Deliver messages one after another, for ever."""
        while True:
            message, client_id = await self._messages.get()
            if client_id is None:
                sockets = list(self._sockets.values())
            else:
                sockets = [self._sockets[client_id]] if client_id in self._sockets else []
            for socket in sockets:
                try:
                    if isinstance(message, str):
                        await socket.send_str(message)
                    else:
                        await socket.send_bytes(message)
                except ConnectionError:
                    continue  # the client has gone; its handler notices and tidies up

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        client_id = request.query.get("clientId", "") or uuid.uuid4().hex
        self._sockets.pop(client_id, None)
        self._sockets[client_id] = socket
        try:
            status = {"exec_info": {"queue_remaining": self._remaining()}}
            await socket.send_json(_message("status", {"status": status, "sid": client_id}))
            if client_id == self.client_id and self.node_id is not None:
                await socket.send_json(_message("executing", {"node": self.node_id}))
            await self._listen(socket)
        finally:
            self._sockets.pop(client_id, None)
        return socket

    async def _listen(self, socket: web.WebSocketResponse) -> None:
        is_first = True
        async for message in socket:
            if message.type is WSMsgType.TEXT and is_first:
                is_first = False
                if _asks_for_features(message.data):
                    await socket.send_json(_message("feature_flags", FEATURES))

    async def close(self) -> None:
        for socket in list(self._sockets.values()):
            await socket.close()


def _message(event: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"type": event, "data": data}


def _asks_for_features(text: str) -> bool:
    try:
        message = json.loads(text)
    except ValueError:
        return False
    return isinstance(message, dict) and message.get("type") == "feature_flags"
