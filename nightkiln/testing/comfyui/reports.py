"""What the world hears of one running prompt: websocket messages now, a history entry later."""

from __future__ import annotations

import time
from typing import Any

from nightkiln.testing.comfyui.outputs import Told
from nightkiln.testing.comfyui.queue import Item
from nightkiln.testing.comfyui.sockets import Hub


class Report:
    """Tells the client that submitted the prompt, or nobody in particular."""

    def __init__(self, hub: Hub, item: Item) -> None:
        self._hub, self._item = hub, item
        self._prompt_id = item[1]
        self.client_id: str | None = item[3].get("client_id")
        self._messages: list[tuple[str, dict[str, Any]]] = []
        self._outputs: dict[str, Told] = {}
        self._progress: dict[str, dict[str, Any]] = {}

    @property
    def ending(self) -> str:
        """The name of the last message: how the prompt ended."""
        return self._messages[-1][0]

    @property
    def has_listeners(self) -> bool:
        return self._hub.has_listeners

    def message(self, event: str, fields: dict[str, Any] | None = None) -> None:
        """Tell the client, and remember it for the history."""
        known = {"prompt_id": self._prompt_id} | (fields if fields is not None else {})
        known["timestamp"] = int(time.time() * 1000)
        self._messages.append((event, known))
        if self.client_id is not None or event == "execution_interrupted":
            self._hub.send(event, known, client_id=self.client_id)

    def started(self, node_id: str) -> None:
        """A node runs from now on."""
        self._hub.node_id = node_id
        self.progress(node_id, 0.0, 1.0, "running")
        self._send("executing", {"node": node_id, "display_node": node_id})

    def step(self, node_id: str, value: int, most: int) -> None:
        """A node has come so far."""
        self.progress(node_id, value, most, "running")
        self._send("progress", {"value": value, "max": most, "node": node_id})

    def picture(self, frame: bytes) -> None:
        """A picture that is sent rather than saved."""
        if self.client_id is not None:
            self._hub.send_bytes(frame, client_id=self.client_id)

    def finished(self, node_id: str, told: Told | None) -> None:
        """A node has run, or its result came from the cache."""
        if told:
            self._outputs[node_id] = told
            executed = {"node": node_id, "display_node": node_id, "output": told}
            self._send("executed", executed)
        if told or node_id in self._progress:
            most = self._progress.get(node_id, {"max": 1})["max"]
            self.progress(node_id, most, most, "finished")

    def over(self) -> None:
        """The history has the prompt."""
        self._hub.node_id = None
        self._send("executing", {"node": None})

    def _send(self, event: str, fields: dict[str, Any]) -> None:
        if self.client_id is not None:
            fields = fields | {"prompt_id": self._prompt_id}
            self._hub.send(event, fields, client_id=self.client_id)

    def progress(self, node_id: str, value: float, most: float, state: str) -> None:
        """Where every node stands; to everybody if the prompt has no client."""
        self._progress[node_id] = {"value": value, "max": most, "state": state}
        if not self._hub.has_listeners:
            return
        nodes = {
            shown: {
                **progress,
                "node_id": shown,
                "prompt_id": self._prompt_id,
                "display_node_id": shown,
                "parent_node_id": None,
                "real_node_id": shown,
            }
            for shown, progress in self._progress.items()
        }
        data = {"prompt_id": self._prompt_id, "nodes": nodes}
        self._hub.send("progress_state", data, client_id=self.client_id)

    def entry(self) -> dict[str, Any]:
        """The entry in the history."""
        is_success = self.ending == "execution_success"
        meta = {
            node_id: {
                "node_id": node_id,
                "display_node": node_id,
                "parent_node": None,
                "real_node_id": node_id,
            }
            for node_id in self._outputs
        }
        return {
            "prompt": self._item,
            "outputs": self._outputs,
            "status": {
                "status_str": "success" if is_success else "error",
                "completed": is_success,
                "messages": self._messages,
            },
            "meta": meta,
        }
