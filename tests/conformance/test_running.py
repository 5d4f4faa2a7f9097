"""How a prompt is executed and what is told of it."""

from __future__ import annotations

from uuid import uuid4

import pytest

from nightkiln.testing.comfyui.peer import Peer
from nightkiln.testing.comfyui.samples import fail, image, save, sleep

OUT_OF_MEMORY = (
    "out of memory on purpose t\nThis error means you ran out of memory on your GPU.\n\n"
    "TIPS: If the workflow worked before you might have accidentally set the batch_size"
    " to a large number."
)


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


def test_pictures_for_the_websocket_come_as_frames_and_leave_no_file(comfyui: Peer) -> None:
    saver = {"class_type": "SaveImageWebsocket", "inputs": {"images": ["1", 0]}}
    graph = {"1": image(batch=2), "2": saver}

    run, again = comfyui.run(graph), comfyui.run(graph)

    assert [frame[:12] for frame in run.frames] == [b"\0\0\0\1\0\0\0\2\x89PNG"] * 2
    assert run.outputs == {}
    assert again.of("execution_cached")[0]["nodes"] == ["1"]
    assert len(again.frames) == 2
