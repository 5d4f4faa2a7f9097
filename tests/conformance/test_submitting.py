"""What ``POST /prompt`` takes and refuses, and how it says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from nightkiln.testing.comfyui.peer import Peer
from nightkiln.testing.comfyui.samples import image, save

LATENT = {"width": 64, "height": 64, "batch_size": 1}


def sized(**inputs: Any) -> dict[str, Any]:
    """An image with a size, or whatever is given for one."""
    node = image(0)
    return {**node, "inputs": {**node["inputs"], **inputs}}


def linked(link: Any) -> dict[str, Any]:
    """A saving node with whatever is given for a link."""
    node = save()
    return {**node, "inputs": {**node["inputs"], "images": link}}


@dataclass(frozen=True)
class Refused:
    """A graph and what is wrong with it."""

    why: str
    graph: Any
    error: str
    node: str = ""  # the node that is blamed, if one is
    node_error: str = ""
    told: str = ""  # part of the message or details
    upstream: bool = False  # the fault lies before the output node


FAILED = "prompt_outputs_failed_validation"
REFUSED = [
    Refused("empty", {}, "prompt_no_outputs", told="Prompt has no outputs"),
    Refused("a list", [], "prompt_no_outputs"),
    Refused("no output node", {"1": image()}, "prompt_no_outputs"),
    Refused(
        "unknown class",
        {"1": {"class_type": "Nope", "inputs": {}}},
        "invalid_prompt",
        told="Cannot execute because node Nope does not exist.",
    ),
    Refused(
        "no class",
        {"1": {"inputs": {}}},
        "invalid_prompt",
        told="Cannot execute because a node is missing the class_type property.",
    ),
    Refused(
        "missing input",
        {"1": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}}},
        FAILED,
        "1",
        "required_input_missing",
        "images",
    ),
    Refused(
        "too large",
        {"1": sized(width=99999), "2": save()},
        FAILED,
        "1",
        "value_bigger_than_max",
        "Value 99999 bigger than max of 16384",
        upstream=True,
    ),
    Refused(
        "too small",
        {"1": sized(width=0), "2": save()},
        FAILED,
        "1",
        "value_smaller_than_min",
        "Value 0 smaller than min of 1",
        upstream=True,
    ),
    Refused(
        "wrong type",
        {"1": sized(width="wide"), "2": save()},
        FAILED,
        "1",
        "invalid_input_type",
        "Failed to convert an input value to a INT value",
        upstream=True,
    ),
    Refused("null", {"1": sized(width=None), "2": save()}, FAILED, "1", "invalid_input_type"),
    Refused(
        "dangling link",
        {"2": save("99")},
        FAILED,
        "2",
        "exception_during_validation",
        "'99'",
    ),
    Refused(
        "dangling link further up",
        {"1": {"class_type": "ImageInvert", "inputs": {"image": ["99", 0]}}, "2": save()},
        FAILED,
        "1",
        "exception_during_inner_validation",
        "'99'",
        upstream=True,
    ),
    Refused(
        "no such slot",
        {"1": image(), "2": linked(["1", 3])},
        FAILED,
        "2",
        "exception_during_validation",
        "tuple index out of range",
    ),
    Refused(
        "no inputs", {"2": {"class_type": "SaveImage"}}, FAILED, "2", "exception_during_validation"
    ),
    Refused("bad link", {"1": image(), "2": linked(["1", 0, 0])}, FAILED, "2", "bad_linked_input"),
    Refused(
        "mismatch",
        {"1": {"class_type": "EmptyLatentImage", "inputs": LATENT}, "2": save()},
        FAILED,
        "2",
        "return_type_mismatch",
        "images, received_type(LATENT) mismatch input_type(IMAGE)",
    ),
    Refused(
        "no such upload",
        {"1": {"class_type": "LoadImage", "inputs": {"image": "no.png"}}, "2": save()},
        FAILED,
        "1",
        "custom_validation_failed",
        "image - Invalid image file: no.png",
        upstream=True,
    ),
    Refused(
        "a circle",
        {
            "1": {"class_type": "ImageInvert", "inputs": {"image": ["2", 0]}},
            "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
            "3": save(),
        },
        FAILED,
    ),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.why)
def test_a_graph_that_cannot_run_is_refused(comfyui: Peer, case: Refused) -> None:
    reply = comfyui.submit(case.graph)

    assert reply.status_code == 400
    answer = reply.json()
    assert set(answer) == {"error", "node_errors"}
    assert set(answer["error"]) == {"type", "message", "details", "extra_info"}
    assert answer["error"]["type"] == case.error
    if not case.node:
        assert case.told in answer["error"]["message"]
        return
    blamed = answer["node_errors"][case.node]
    assert set(blamed) == {"errors", "dependent_outputs", "class_type"}
    assert blamed["class_type"] == case.graph[case.node]["class_type"]
    [error] = blamed["errors"]
    assert error["type"] == case.node_error
    assert case.told in error["message"] or case.told in error["details"]
    # What is said at the top is only of the output node itself.
    assert (answer["error"]["details"] == "") == case.upstream or case.why == "null"


def test_a_checkpoint_that_is_not_there_is_named_with_those_that_are(comfyui: Peer) -> None:
    loader = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "missing.ckpt"}}
    decode = {"samples": ["2", 0], "vae": ["1", 2]}
    graph = {
        "1": loader,
        "2": {"class_type": "EmptyLatentImage", "inputs": LATENT},
        "3": {"class_type": "VAEDecode", "inputs": decode},
        "4": save("3"),
    }

    reply = comfyui.submit(graph)

    assert reply.status_code == 400
    assert set(reply.json()["node_errors"]) == {"1"}
    [error] = reply.json()["node_errors"]["1"]["errors"]
    assert error["type"] == "value_not_in_list"
    assert error["message"] == "Value not in list"
    assert error["details"].startswith("ckpt_name: 'missing.ckpt' not in [")
    assert comfyui.checkpoint in error["details"]
    assert error["extra_info"]["input_name"] == "ckpt_name"
    assert error["extra_info"]["received_value"] == "missing.ckpt"
    assert comfyui.checkpoint in error["extra_info"]["input_config"][0]


def test_a_list_of_more_than_twenty_is_not_repeated(comfyui: Peer) -> None:
    sampler = {"seed": 1, "steps": 1, "cfg": 1, "sampler_name": "no", "scheduler": "simple"}
    links = {
        "model": ["1", 0],
        "positive": ["2", 0],
        "negative": ["2", 0],
        "latent_image": ["3", 0],
    }
    graph = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": comfyui.checkpoint}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "x", "clip": ["1", 1]}},
        "3": {"class_type": "EmptyLatentImage", "inputs": LATENT},
        "4": {"class_type": "KSampler", "inputs": {**sampler, **links, "denoise": 1}},
        "5": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0], "vae": ["1", 2]}},
        "6": save("5"),
    }

    [error] = comfyui.submit(graph).json()["node_errors"]["4"]["errors"]

    count = len(
        comfyui.http.get("/object_info/KSampler").json()["KSampler"]["input"]["required"][
            "sampler_name"
        ][0]
    )
    assert count > 20
    assert error["details"] == f"sampler_name: 'no' not in (list of length {count})"
    assert error["extra_info"]["input_config"] is None


def test_every_wrong_input_of_a_node_is_told(comfyui: Peer) -> None:
    graph = {"1": sized(width=0, height=99999, color="red"), "2": save()}

    errors = comfyui.submit(graph).json()["node_errors"]["1"]["errors"]

    assert {error["type"] for error in errors} == {
        "value_smaller_than_min",
        "value_bigger_than_max",
        "invalid_input_type",
    }


def test_a_node_that_two_outputs_need_is_blamed_for_both(comfyui: Peer) -> None:
    graph = {"1": sized(width=0), "2": save(), "3": save()}

    blamed = comfyui.submit(graph).json()["node_errors"]

    assert set(blamed) == {"1"}
    assert set(blamed["1"]["dependent_outputs"]) == {"2", "3"}


def test_no_prompt_at_all_is_refused(comfyui: Peer) -> None:
    reply = comfyui.http.post("/prompt", json={"client_id": "x"})

    assert reply.status_code == 400
    assert reply.json() == {
        "error": {
            "type": "no_prompt",
            "message": "No prompt provided",
            "details": "No prompt provided",
            "extra_info": {},
        },
        "node_errors": {},
    }


@pytest.mark.parametrize("body", [b"{", b"not json", b'{"prompt": "text"}', b"[]"])
def test_a_body_of_another_shape_gets_the_server_in_trouble(comfyui: Peer, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    reply = comfyui.http.post("/prompt", content=body, headers=headers)

    if body == b"[]":  # a list has no keys, and that is all that is looked for
        assert reply.status_code == 400
        return
    assert reply.status_code == 500
    assert reply.headers["content-type"].startswith("text/plain")
    assert reply.text == "500 Internal Server Error\n\nServer got itself in trouble"
