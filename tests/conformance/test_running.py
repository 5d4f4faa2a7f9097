"""How a prompt is executed and what is told of it."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from nightkiln.testing.comfyui.peer import Peer

OUT_OF_MEMORY = (
    "out of memory on purpose t\nThis error means you ran out of memory on your GPU.\n\n"
    "TIPS: If the workflow worked before you might have accidentally set the batch_size"
    " to a large number."
)


def image(color: int | None = None, batch: int = 1) -> dict[str, Any]:
    """A plain image; without a colour, one that nobody has asked for before."""
    chosen = color if color is not None else uuid4().int % 0xFFFFFF
    inputs = {"width": 16, "height": 16, "batch_size": batch, "color": chosen}
    return {"class_type": "EmptyImage", "inputs": inputs}


def save(source: str = "1", prefix: str | None = None) -> dict[str, Any]:
    chosen = prefix if prefix is not None else f"conformance/{uuid4().hex}"
    return {"class_type": "SaveImage", "inputs": {"images": [source, 0], "filename_prefix": chosen}}


def sleep(seconds: float, steps: int = 2) -> dict[str, Any]:
    inputs = {"image": ["1", 0], "seconds": seconds, "steps": steps, "tag": uuid4().hex}
    return {"class_type": "NightkilnSleep", "inputs": inputs}


def fail(kind: str) -> dict[str, Any]:
    inputs = {"image": ["1", 0], "kind": kind, "tag": "t"}
    return {"class_type": "NightkilnRaise", "inputs": inputs}


def test_the_websocket_tells_of_every_step_in_order(comfyui: Peer) -> None:
    run = comfyui.run({"1": image(), "2": sleep(0.02), "3": save("2")})

    told = [
        (name, data.get("node"))
        for name, data in run.messages
        if name not in {"progress_state", "status"}
    ]
    assert told == [
        ("execution_start", None),
        ("execution_cached", None),
        ("executing", "1"),
        ("executing", "2"),
        ("progress", "2"),
        ("progress", "2"),
        ("executing", "3"),
        ("executed", "3"),
        ("execution_success", None),
        ("executing", None),
    ]
    names = [name for name, _ in run.messages]
    assert names[:3] == ["status", "status", "execution_start"]
    assert names[-3:] == ["execution_success", "status", "executing"]
    remaining = [data["status"]["exec_info"]["queue_remaining"] for data in run.of("status")]
    assert remaining == [1, 1, 0]
    assert [(data["value"], data["max"]) for data in run.of("progress")] == [(1, 2), (2, 2)]
    assert all(
        data["prompt_id"] == run.prompt_id for name, data in run.messages if name != "status"
    )


def test_progress_state_tells_where_every_node_stands(comfyui: Peer) -> None:
    run = comfyui.run({"1": image(), "2": sleep(0.02), "3": save("2")})

    states = [
        {node: (at["value"], at["max"], at["state"]) for node, at in data["nodes"].items()}
        for data in run.of("progress_state")
    ]
    one, two = {"1": (1, 1, "finished")}, {"2": (2, 2, "finished")}
    assert states == [
        {"1": (0, 1, "running")},
        one,
        one | {"2": (0, 1, "running")},
        one | {"2": (1, 2, "running")},
        one | {"2": (2, 2, "running")},
        one | two,
        one | two | {"3": (0, 1, "running")},
        one | two | {"3": (1, 1, "finished")},
    ]
    assert run.of("progress_state")[0]["nodes"]["1"] == {
        "value": 0,
        "max": 1,
        "state": "running",
        "node_id": "1",
        "prompt_id": run.prompt_id,
        "display_node_id": "1",
        "parent_node_id": None,
        "real_node_id": "1",
    }


def test_the_history_tells_what_was_asked_and_what_came_of_it(comfyui: Peer) -> None:
    graph = {"1": image(batch=2), "2": save(prefix="conformance/history")}

    run = comfyui.run(graph, extra_data={"mine": 1, "auth_token_comfy_org": "secret"})

    assert set(run.entry) == {"prompt", "outputs", "status", "meta"}
    number, prompt_id, kept, extra, outputs = run.entry["prompt"]
    assert isinstance(number, int)
    assert (prompt_id, kept, outputs) == (run.prompt_id, graph, ["2"])
    assert set(extra) == {"mine", "client_id", "create_time"}
    [*files] = run.outputs["2"]["images"]
    assert [set(file) for file in files] == [{"filename", "subfolder", "type"}] * 2
    assert [file["subfolder"] for file in files] == ["conformance"] * 2
    assert all(file["filename"].startswith("history_") for file in files)
    assert run.of("executed")[0]["output"] == run.outputs["2"]
    status = run.entry["status"]
    assert (status["status_str"], status["completed"]) == ("success", True)
    assert [name for name, _ in status["messages"]] == [
        "execution_start",
        "execution_cached",
        "execution_success",
    ]
    stamps = [fields["timestamp"] for _, fields in status["messages"]]
    assert extra["create_time"] <= stamps[0] <= stamps[-1]
    assert run.entry["meta"] == {
        "2": {"node_id": "2", "display_node": "2", "parent_node": None, "real_node_id": "2"}
    }


def test_an_unknown_id_has_an_empty_history(comfyui: Peer) -> None:
    reply = comfyui.http.get(f"/history/{uuid4()}")

    assert (reply.status_code, reply.json()) == (200, {})


def test_a_history_entry_can_be_deleted(comfyui: Peer) -> None:
    one, other = [comfyui.run({"1": image(), "2": save()}).prompt_id for _ in range(2)]

    reply = comfyui.http.post("/history", json={"delete": [one, "unknown"]})

    assert (reply.status_code, reply.content) == (200, b"")
    assert comfyui.http.get(f"/history/{one}").json() == {}
    assert set(comfyui.http.get(f"/history/{other}").json()) == {other}


def test_the_newest_of_the_history_can_be_asked_for(comfyui: Peer) -> None:
    ids = [comfyui.run({"1": image(), "2": save()}).prompt_id for _ in range(3)]

    newest = comfyui.http.get("/history", params={"max_items": 2}).json()

    assert list(newest) == ids[1:]
    everything = list(comfyui.http.get("/history").json())
    assert everything[-3:] == ids
    third = {"max_items": 1, "offset": len(everything) - 2}
    assert list(comfyui.http.get("/history", params=third).json()) == [ids[1]]


def test_the_same_prompt_again_gives_the_same_files_and_runs_nothing(comfyui: Peer) -> None:
    graph = {"1": image(), "2": save()}

    first, again = comfyui.run(graph), comfyui.run(graph)

    assert first.of("execution_cached")[0]["nodes"] == []
    assert again.of("execution_cached")[0]["nodes"] == ["1", "2"]
    assert again.outputs == first.outputs
    assert [data["node"] for data in again.of("executing")] == [None]
    assert [data["node"] for data in again.of("executed")] == ["2"]


def test_other_numbers_for_the_nodes_hit_the_cache_all_the_same(comfyui: Peer) -> None:
    one, saver = image(), save()
    first = comfyui.run({"1": one, "2": saver})

    inputs = saver["inputs"] | {"images": ["10", 0]}
    again = comfyui.run({"10": one, "20": {**saver, "inputs": inputs}})

    assert sorted(again.of("execution_cached")[0]["nodes"]) == ["10", "20"]
    assert again.outputs["20"] == first.outputs["2"]


def test_another_prefix_runs_only_the_saving_node(comfyui: Peer) -> None:
    picture = image()
    first = comfyui.run({"1": picture, "2": save()})

    again = comfyui.run({"1": picture, "2": save()})

    assert again.of("execution_cached")[0]["nodes"] == ["1"]
    assert [data["node"] for data in again.of("executing")] == ["2", None]
    assert again.outputs != first.outputs


def test_the_cache_holds_only_the_prompt_before(comfyui: Peer) -> None:
    graph = {"1": image(), "2": save()}
    comfyui.run(graph)
    comfyui.run({"1": image(), "2": save()})

    again = comfyui.run(graph)

    assert again.of("execution_cached")[0]["nodes"] == []


def test_freeing_memory_empties_the_cache(comfyui: Peer) -> None:
    graph = {"1": image(), "2": save()}
    first = comfyui.run(graph)

    reply = comfyui.http.post("/free", json={"free_memory": True})
    again = comfyui.run(graph)

    assert (reply.status_code, reply.content) == (200, b"")
    assert again.of("execution_cached")[0]["nodes"] == []
    assert again.outputs != first.outputs


def test_two_nodes_that_save_the_same_share_the_file(comfyui: Peer) -> None:
    run = comfyui.run({"1": image(), "2": save(prefix="c/twice"), "3": save(prefix="c/twice")})

    assert run.outputs["2"] == run.outputs["3"]


@pytest.mark.parametrize(
    ("kind", "exception", "message"),
    [
        ("value", "ValueError", "on purpose t\n"),
        ("oserror", "OSError", "[Errno 28] No space left on device\n"),
        (
            "oom",
            "torch.OutOfMemoryError",
            OUT_OF_MEMORY,
        ),
    ],
)
def test_a_node_that_raises_ends_the_prompt(
    comfyui: Peer, kind: str, exception: str, message: str
) -> None:
    run = comfyui.run({"1": image(), "2": fail(kind), "3": save("2")})

    assert run.outputs == {}
    assert run.entry["status"]["status_str"] == "error"
    assert run.entry["status"]["completed"] is False
    name, fields = run.ending
    assert name == "execution_error"
    assert set(fields) == {
        "prompt_id",
        "node_id",
        "node_type",
        "executed",
        "exception_message",
        "exception_type",
        "traceback",
        "current_inputs",
        "current_outputs",
        "timestamp",
    }
    assert (fields["node_id"], fields["node_type"]) == ("2", "NightkilnRaise")
    assert (fields["exception_type"], fields["exception_message"]) == (exception, message)
    assert fields["executed"] == ["1"]
    assert fields["current_inputs"]["kind"] == [kind]
    assert run.of("execution_error") == [fields]
    assert run.of("execution_success") == []


def test_what_was_saved_before_an_error_is_in_the_history(comfyui: Peer) -> None:
    run = comfyui.run({"1": image(), "2": save(), "3": fail("value"), "4": save("3")})

    assert run.entry["status"]["status_str"] == "error"
    assert set(run.outputs) <= {"2"}


def test_a_name_that_leads_out_of_the_folder_fails_when_it_runs(comfyui: Peer) -> None:
    run = comfyui.run({"1": image(), "2": save(prefix="../../evil")})

    name, fields = run.ending
    assert (name, fields["exception_type"]) == ("execution_error", "Exception")
    assert fields["exception_message"].startswith(
        "**** ERROR: Saving image outside the output folder is not allowed.\n"
    )


def test_an_interrupted_prompt_ends_at_its_next_step(comfyui: Peer) -> None:
    with comfyui.listening("interrupting") as listener:
        prompt_id = comfyui.accepted(
            {"1": image(), "2": sleep(60, 1000), "3": save("2")}, client_id="interrupting"
        )
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
    graph = {"1": image(), "2": sleep(60, 1000), "3": save("2")}
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
        first = comfyui.accepted(
            {"1": image(), "2": sleep(60, 1000), "3": save("2")}, client_id="ordering"
        )
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
        prompt_id = comfyui.accepted(
            {"1": image(), "2": sleep(60, 1000), "3": save("2")}, client_id="returning"
        )
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


def test_pictures_for_the_websocket_come_as_frames_and_leave_no_file(comfyui: Peer) -> None:
    saver = {"class_type": "SaveImageWebsocket", "inputs": {"images": ["1", 0]}}
    graph = {"1": image(batch=2), "2": saver}

    run, again = comfyui.run(graph), comfyui.run(graph)

    assert [frame[:12] for frame in run.frames] == [b"\0\0\0\1\0\0\0\2\x89PNG"] * 2
    assert run.outputs == {}
    assert again.of("execution_cached")[0]["nodes"] == ["1"]
    assert len(again.frames) == 2


def test_a_client_that_tells_its_features_is_told_the_servers(comfyui: Peer) -> None:
    with comfyui.listening("featured") as listener:
        listener.socket.send('{"type": "feature_flags", "data": {}}')
        [(name, data)] = listener.until("feature_flags")

    assert (name, data) == ("feature_flags", comfyui.http.get("/features").json())
