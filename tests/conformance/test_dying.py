"""How a server ends, and what is left of what it was given."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosedError

from nightkiln.testing.comfyui.peer import Peer
from nightkiln.testing.comfyui.process import ServerProcess

Mortal = Callable[[], AbstractContextManager[ServerProcess]]


def graph(*, kind: str | None = None, color: int = 1) -> dict[str, Any]:
    size = {"width": 16, "height": 16, "batch_size": 1, "color": color}
    nodes: dict[str, Any] = {"1": {"class_type": "EmptyImage", "inputs": size}}
    if kind is not None:
        inputs = {"image": ["1", 0], "kind": kind, "tag": "t"}
        nodes["2"] = {"class_type": "NightkilnRaise", "inputs": inputs}
    saver = {"images": ["2" if kind is not None else "1", 0], "filename_prefix": "conformance/d"}
    return {**nodes, "3": {"class_type": "SaveImage", "inputs": saver}}


def sleeping() -> dict[str, Any]:
    inputs = {"image": ["1", 0], "seconds": 60, "steps": 1000, "tag": "t"}
    return {**graph(kind="value"), "2": {"class_type": "NightkilnSleep", "inputs": inputs}}


def test_a_dead_worker_thread_is_seen_only_in_what_does_not_happen(mortal: Mortal) -> None:
    with mortal() as server:
        asking = Peer(server.url, "", "")
        with asking.listening("me") as listener:
            stuck = asking.accepted(graph(kind="exit"), client_id="me")
            listener.until("executing", node="2")
            behind = asking.accepted(graph(color=2), client_id="me")
            listener.until("status", status={"exec_info": {"queue_remaining": 2}})
        queue = asking.http.get("/queue").json()

        assert asking.http.get("/system_stats").status_code == 200
        assert [item[1] for item in queue["queue_running"]] == [stuck]
        assert [item[1] for item in queue["queue_pending"]] == [behind]
        assert asking.http.get(f"/history/{stuck}").json() == {}
        asking.close()


def test_two_waiting_prompts_of_one_number_and_id_end_the_worker(mortal: Mortal) -> None:
    with mortal() as server:
        asking = Peer(server.url, "", "")
        with asking.listening("me") as listener:
            first = asking.accepted(sleeping(), client_id="me")
            listener.until("progress", node="2")
            replies = [
                asking.submit(graph(color=color), number=5, prompt_id="same").status_code
                for color in range(4)
            ]
            waiting = asking.http.get("/queue").json()["queue_pending"]
            asking.http.post("/interrupt", json={"prompt_id": first})
            listener.until_over(first)
        queue = asking.http.get("/queue").json()

        assert replies == [200, 500, 500, 500]
        assert [item[1] for item in waiting] == ["same"] * 4
        assert queue["queue_running"] == []
        assert len(queue["queue_pending"]) >= 1
        asking.close()


def test_a_killed_server_hangs_up_and_the_next_one_knows_nothing(mortal: Mortal) -> None:
    with mortal() as server:
        asking = Peer(server.url, "", "")
        done = asking.run(graph()).prompt_id
        with asking.listening("me") as listener:
            running = asking.accepted(sleeping(), client_id="me")
            listener.until("progress", node="2")
            server.kill()
            with pytest.raises(ConnectionClosedError):
                listener.until_over(running)
        with pytest.raises(httpx.TransportError):
            asking.http.get("/system_stats")
        asking.close()
    with mortal() as server:
        asking = Peer(server.url, "", "")

        assert asking.http.get("/history").json() == {}
        assert asking.http.get("/queue").json() == {"queue_running": [], "queue_pending": []}
        assert asking.http.get(f"/history/{done}").json() == {}
        assert asking.submit(graph()).json()["number"] == 0
        asking.close()


def test_a_node_that_ends_the_process_takes_everything_with_it(mortal: Mortal) -> None:
    with mortal() as server:
        asking = Peer(server.url, "", "")
        with asking.listening("me") as listener:
            prompt_id = asking.accepted(graph(kind="kill"), client_id="me")
            with pytest.raises(ConnectionClosedError):
                listener.until_over(prompt_id)
        with pytest.raises(httpx.TransportError):
            asking.http.get("/system_stats")
        asking.close()


def test_a_server_that_is_told_to_stop_stops(mortal: Mortal) -> None:
    with mortal() as server:
        server.process.terminate()

        server.process.wait(10)
