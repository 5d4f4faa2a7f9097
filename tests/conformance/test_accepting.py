"""What becomes of a prompt that ``POST /prompt`` takes."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from nightkiln.testing.comfyui.peer import Peer
from nightkiln.testing.comfyui.samples import image, save


def test_an_output_that_cannot_run_is_left_out_in_a_reply_of_200(comfyui: Peer) -> None:
    graph = {
        "1": image(),
        "2": save(),
        "3": save("99"),
    }

    reply = comfyui.submit(graph)

    assert reply.status_code == 200
    assert set(reply.json()) == {"prompt_id", "number", "node_errors"}
    assert set(reply.json()["node_errors"]) == {"3"}
    run = comfyui.run(graph)
    assert set(run.outputs) == {"2"}
    assert run.entry["prompt"][4] == ["2"]


def test_the_client_chooses_the_prompt_id(comfyui: Peer) -> None:
    chosen = str(uuid4())
    run = comfyui.run({"1": image(), "2": save()}, prompt_id=chosen)

    assert run.prompt_id == chosen
    assert run.entry["prompt"][1] == chosen


@pytest.mark.parametrize(("given", "kept"), [(None, "None"), (123, "123")])
def test_a_prompt_id_becomes_text(comfyui: Peer, given: Any, kept: str) -> None:
    run = comfyui.run({"1": image(), "2": save()}, prompt_id=given)

    assert run.prompt_id == kept


def test_a_reused_prompt_id_overwrites_the_history(comfyui: Peer) -> None:
    chosen = str(uuid4())
    first = comfyui.run({"1": image(), "2": save()}, prompt_id=chosen)
    again = comfyui.run({"1": image(), "3": save()}, prompt_id=chosen)

    assert set(first.outputs) == {"2"}
    assert set(again.outputs) == {"3"}


def test_numbers_are_converted_in_place_and_unknown_inputs_ignored(comfyui: Peer) -> None:
    given = image()
    given["inputs"] |= {"width": "24", "color": 9.7, "nonsense": 1}
    graph = {"1": given, "2": save()}

    run = comfyui.run(graph)

    inputs = run.entry["prompt"][2]["1"]["inputs"]
    assert (inputs["width"], inputs["color"], inputs["nonsense"]) == (24, 9, 1)


def test_only_the_targets_asked_for_are_executed(comfyui: Peer) -> None:
    graph = {"1": image(), "2": save(), "3": save()}

    run = comfyui.run(graph, partial_execution_targets=["3"])

    assert set(run.outputs) == {"3"}


def test_a_newer_choice_is_looked_at_only_when_the_node_runs(comfyui: Peer) -> None:
    inputs = {"images": ["1", 0], "filename_prefix": "conformance/v", "fps": 5, "crf": 30}
    graph = {"1": image(), "2": {"class_type": "SaveWEBM", "inputs": {**inputs, "codec": "no"}}}

    run = comfyui.run(graph)

    assert run.ending[0] == "execution_error"
