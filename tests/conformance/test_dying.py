"""How a server ends, and what is left of what it was given."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import httpx
import pytest
from websockets.exceptions import ConnectionClosedError

from nightkiln.testing.comfyui.peer import Peer
from nightkiln.testing.comfyui.process import ServerProcess
from nightkiln.testing.comfyui.samples import fail, image, long, save, sleep

Mortal = Callable[[], AbstractContextManager[ServerProcess]]


def test_a_dead_worker_thread_is_seen_only_in_what_does_not_happen(mortal: Mortal) -> None:
    with mortal() as server:
        asking = Peer(server.url, "", "")
        with asking.listening("me") as listener:
            stuck = asking.accepted(
                {"1": image(), "2": fail("exit"), "3": save("2")}, client_id="me"
            )
            listener.until("executing", node="2")
            behind = asking.accepted({"1": image(), "2": save()}, client_id="me")
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
            first = asking.accepted(long(), client_id="me")
            listener.until("progress", node="2")
            replies = [
                asking.submit({"1": image(), "2": save()}, number=5, prompt_id="same").status_code
                for _ in range(4)
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
        done = asking.run({"1": image(), "2": save()}).prompt_id
        with asking.listening("me") as listener:
            running = asking.accepted(long(), client_id="me")
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
        assert asking.submit({"1": image(), "2": save()}).json()["number"] == 0
        asking.close()


def test_a_node_that_ends_the_process_takes_everything_with_it(mortal: Mortal) -> None:
    with mortal() as server:
        asking = Peer(server.url, "", "")
        with asking.listening("me") as listener:
            # It waits a little, so that the answer to the POST is out before all is over.
            dying = {"1": image(), "2": sleep(0.5), "3": fail("kill", source="2"), "4": save("3")}
            prompt_id = asking.accepted(dying, client_id="me")
            with pytest.raises(ConnectionClosedError):
                listener.until_over(prompt_id)
        with pytest.raises(httpx.TransportError):
            asking.http.get("/system_stats")
        asking.close()


def test_a_server_that_is_told_to_stop_stops(mortal: Mortal) -> None:
    with mortal() as server:
        server.process.terminate()

        server.process.wait(10)
