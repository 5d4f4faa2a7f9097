"""Who hears what over the websocket."""

from __future__ import annotations

from nightkiln.testing.comfyui.peer import Peer
from nightkiln.testing.comfyui.samples import image, long, save


def test_a_prompt_without_a_client_is_told_to_all_but_only_its_progress(comfyui: Peer) -> None:
    with comfyui.listening("eavesdropping") as listener:
        prompt_id = comfyui.accepted({"1": image(), "2": save()})
        messages = listener.until("status", status={"exec_info": {"queue_remaining": 0}})

    assert {name for name, _ in messages} == {"status", "progress_state"}
    assert prompt_id in {data.get("prompt_id") for _, data in messages}


def test_other_clients_hear_only_of_the_queue(comfyui: Peer) -> None:
    with comfyui.listening("bystander") as bystander:
        comfyui.run({"1": image(), "2": save()})
        messages = bystander.until("status", status={"exec_info": {"queue_remaining": 0}})

    assert {name for name, _ in messages} == {"status"}


def test_who_comes_back_is_told_the_running_node(comfyui: Peer) -> None:
    with comfyui.listening("returning") as listener:
        prompt_id = comfyui.accepted(long(), client_id="returning")
        listener.until("progress", node="2")
    with comfyui.listening("returning") as again:
        name, data = again.next()
        comfyui.http.post("/interrupt", json={"prompt_id": prompt_id})
        again.until_over(prompt_id)

    assert (name, data) == ("executing", {"node": "2"})


def test_the_newest_socket_of_a_client_hears_everything(comfyui: Peer) -> None:
    with comfyui.listening("double") as older, comfyui.listening("double") as newer:
        prompt_id = comfyui.accepted({"1": image(), "2": save()}, client_id="double")
        newer.until_over(prompt_id)
        comfyui.http.post("/queue", json={"clear": True})
        older.socket.close()

    assert comfyui.entry(prompt_id)["status"]["status_str"] == "success"


def test_a_client_that_tells_its_features_is_told_the_servers(comfyui: Peer) -> None:
    with comfyui.listening("featured") as listener:
        listener.socket.send('{"type": "feature_flags", "data": {}}')
        [(name, data)] = listener.until("feature_flags")

    assert (name, data) == ("feature_flags", comfyui.http.get("/features").json())
