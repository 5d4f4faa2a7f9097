"""A bare, blocking client: what the conformance suite asks with. It knows nothing of nightkiln."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from nightkiln.core.model import Graph

WAIT_S = 60.0  # for one message; a real ComfyUI on a busy CPU is slow
FRAME_MAX = 64 * 1024 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class Run:
    """A prompt from its submission to its end."""

    prompt_id: str
    messages: list[tuple[str, dict[str, Any]]]  # of this prompt and the queue, in order
    frames: list[bytes]
    entry: dict[str, Any]  # in the history

    def of(self, event: str) -> list[dict[str, Any]]:
        """What the messages of one name said."""
        return [data for name, data in self.messages if name == event]

    @property
    def outputs(self) -> dict[str, Any]:
        outputs: dict[str, Any] = self.entry["outputs"]
        return outputs

    @property
    def ending(self) -> tuple[str, dict[str, Any]]:
        """The last message in the history."""
        name, fields = self.entry["status"]["messages"][-1]
        return name, fields


@dataclass(slots=True)
class Listener:
    """One websocket."""

    socket: Connection
    frames: list[bytes] = field(default_factory=list)  # binary messages so far

    def next(self) -> tuple[str, dict[str, Any]]:
        """The next message's name and content."""
        while isinstance(message := self.socket.recv(WAIT_S), bytes):
            self.frames.append(message)
        content = json.loads(message)
        return content["type"], content["data"]

    def until(self, event: str, **fields: Any) -> list[tuple[str, dict[str, Any]]]:
        """All messages up to the one of that name with those fields."""
        messages = [self.next()]
        while messages[-1][0] != event or not fields.items() <= messages[-1][1].items():
            messages.append(self.next())
        return messages

    def until_over(self, prompt_id: str) -> list[tuple[str, dict[str, Any]]]:
        """All messages up to the end of a prompt, which the history knows by then."""
        return self.until("executing", node=None, prompt_id=prompt_id)


class Peer:
    """A server, and the least that it takes to ask it."""

    def __init__(self, url: str, kind: str, checkpoint: str) -> None:
        self.url, self.kind, self.checkpoint = url, kind, checkpoint
        self.http = httpx.Client(base_url=url, timeout=WAIT_S)

    def close(self) -> None:
        self.http.close()

    @contextmanager
    def listening(self, client_id: str) -> Iterator[Listener]:
        """A websocket that has been greeted."""
        address = f"{self.url.replace('http', 'ws', 1)}/ws?clientId={client_id}"
        with connect(address, max_size=FRAME_MAX, open_timeout=WAIT_S) as socket:
            listener = Listener(socket)
            name, data = listener.next()
            assert (name, data["sid"]) == ("status", client_id), "the greeting"
            yield listener

    def submit(self, graph: Any, **more: Any) -> httpx.Response:
        return self.http.post("/prompt", json={"prompt": graph, **more})

    def accepted(self, graph: Any, **more: Any) -> str:
        """Submit; the prompt id."""
        reply = self.submit(graph, **more)
        assert reply.status_code == httpx.codes.OK, reply.text
        prompt_id: str = reply.json()["prompt_id"]
        return prompt_id

    def entry(self, prompt_id: str) -> dict[str, Any]:
        history: dict[str, dict[str, Any]] = self.http.get(f"/history/{prompt_id}").json()
        return history[prompt_id]

    def run(self, graph: Graph, **more: Any) -> Run:
        """Submit, listen, and read the history when it is over."""
        client_id = uuid4().hex
        with self.listening(client_id) as listener:
            prompt_id = self.accepted(graph, client_id=client_id, **more)
            messages = listener.until_over(prompt_id)
        return Run(prompt_id, messages, listener.frames, self.entry(prompt_id))

    def view(self, place: dict[str, str], **more: Any) -> httpx.Response:
        return self.http.get("/view", params=place, **more)
