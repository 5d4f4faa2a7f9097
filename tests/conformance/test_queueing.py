"""What waits, in which order it runs, and how it is taken back."""

from __future__ import annotations

from uuid import uuid4

from nightkiln.testing.comfyui.peer import Peer
from nightkiln.testing.comfyui.samples import image, long, save


def test_an_interrupted_prompt_ends_at_its_next_step(comfyui: Peer) -> None:
    with comfyui.listening("interrupting") as listener:
        prompt_id = comfyui.accepted(long(), client_id="interrupting")
        listener.until("progress", node="2")
        comfyui.http.post("/interrupt", json={"prompt_id": str(uuid4())})
        listener.until("progress", node="2")  # somebody else's id stops nothing
        reply = comfyui.http.post("/interrupt", json={"prompt_id": prompt_id})
        messages = listener.until_over(prompt_id)

    assert (reply.status_code, reply.content) == (200, b"")
    entry = comfyui.entry(prompt_id)
    assert entry["status"]["status_str"] == "error"
    name, fields = entry["status"]["messages"][-1]
    assert name == "execution_interrupted"
    assert set(fields) == {"prompt_id", "node_id", "node_type", "executed", "timestamp"}
    assert (fields["node_id"], fields["executed"]) == ("2", ["1"])
    assert ("execution_interrupted", fields) in messages


def test_an_interrupt_while_nothing_runs_does_not_hurt_the_next_prompt(comfyui: Peer) -> None:
    reply = comfyui.http.post("/interrupt", json={})

    assert reply.status_code == 200
    assert comfyui.run({"1": image(), "2": save()}).ending[0] == "execution_success"


def test_the_queue_tells_what_runs_and_what_waits_and_forgets_what_is_deleted(
    comfyui: Peer,
) -> None:
    graph = long()
    with comfyui.listening("queueing") as listener:
        running = comfyui.accepted(graph, client_id="queueing")
        listener.until("progress", node="2")
        late = comfyui.accepted({"1": image(), "2": save()}, number=900)
        early = comfyui.accepted({"1": image(), "2": save()}, number=-900)
        front = comfyui.accepted({"1": image(), "2": save()}, front=True)
        queue = comfyui.http.get("/queue").json()
        depth = comfyui.http.get("/prompt").json()
        replies = [
            comfyui.http.post("/queue", json={"delete": [early, "unknown", running]}),
            comfyui.http.post("/queue", json={"clear": True}),
        ]
        left = comfyui.http.get("/queue").json()
        comfyui.http.post("/interrupt", json={"prompt_id": running})
        listener.until_over(running)

    assert set(queue) == {"queue_running", "queue_pending"}
    assert [item[1] for item in queue["queue_running"]] == [running]
    assert queue["queue_running"][0][2] == graph
    assert [item[1] for item in sorted(queue["queue_pending"], key=lambda item: item[0])] == [
        early,
        front,
        late,
    ]
    assert depth == {"exec_info": {"queue_remaining": 4}}
    assert [(reply.status_code, reply.content) for reply in replies] == [(200, b"")] * 2
    assert [item[1] for item in left["queue_running"]] == [running]
    assert left["queue_pending"] == []
    assert comfyui.http.get(f"/history/{early}").json() == {}


def test_prompts_run_in_the_order_of_their_numbers(comfyui: Peer) -> None:
    with comfyui.listening("ordering") as listener:
        first = comfyui.accepted(long(), client_id="ordering")
        listener.until("progress", node="2")
        ids = [
            comfyui.accepted({"1": image(), "2": save()}, number=number, client_id="ordering")
            for number in (900, -900, 100)
        ]
        comfyui.http.post("/interrupt", json={"prompt_id": first})
        messages = listener.until_over(ids[0])

    over = [
        data["prompt_id"]
        for name, data in messages
        if name == "executing" and data["node"] is None and data["prompt_id"] != first
    ]
    assert over == [ids[1], ids[2], ids[0]]
