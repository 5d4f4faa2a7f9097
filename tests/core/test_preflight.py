"""A workflow against node definitions: everything that a worker would refuse, and no more."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from nightkiln.core.model import Graph
from nightkiln.core.preflight import binding_problems, graph_problems
from nightkiln.core.specs import Definitions, spec_of, value_problem
from nightkiln.nodes import stock_definitions

MODEL = "checkpoints/sub/x.safetensors"
STOCK = Definitions(stock_definitions(), "the stock nodes", is_stock=True)
DECLARED = Definitions(stock_definitions(), "the stock nodes", is_stock=True, models=(MODEL,))

WORKFLOW: Graph = {
    "4": {
        "class_type": "CheckpointLoaderSimple",
        "inputs": {"ckpt_name": "sub/x.safetensors"},
    },
    "5": {
        "class_type": "EmptyLatentImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 1},
    },
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox", "clip": ["4", 1]}},
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 7,
            "steps": 20,
            "cfg": 8,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 1,
            "model": ["4", 0],
            "positive": ["6", 0],
            "negative": ["6", 0],
            "latent_image": ["5", 0],
        },
        "_meta": {"title": "The Sampler"},
    },
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "x"}},
}


def changed(node: str, **inputs: Any) -> Graph:
    graph = copy.deepcopy(WORKFLOW)
    graph[node]["inputs"].update(inputs)
    return graph


def without(node: str, key: str) -> Graph:
    graph = copy.deepcopy(WORKFLOW)
    del graph[node]["inputs"][key]
    return graph


def told(graph: Graph, definitions: Definitions = DECLARED, **kwargs: Any) -> str:
    problems = graph_problems(graph, definitions, where="workflow.json", **kwargs)
    return "\n".join(str(problem) for problem in problems)


def worker(**changes: Any) -> Definitions:
    """What a worker with one checkpoint says."""
    nodes = stock_definitions()
    nodes["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"] = [["there.safetensors"], {}]
    nodes["LoadImage"]["input"]["required"]["image"] = [["example.png"], {"image_upload": True}]
    return Definitions(nodes, "the nodes of http://worker", **changes)


def test_a_sound_workflow_has_no_problems() -> None:
    assert told(WORKFLOW) == ""


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (
            WORKFLOW | {"7": {"class_type": "KSamplr", "inputs": {}}},
            [
                'workflow.json node 7 "KSamplr"',
                "is not among the stock nodes",
                "did you mean 'KSampler'?",
                "nightkiln object-info save",
            ],
        ),
        (
            without("3", "steps"),
            ['workflow.json node 3 "The Sampler" (KSampler)', "'steps' is missing", "1 to 10000"],
        ),
        (changed("3", steps="many"), ["node 3", "steps", "'many' is not a whole number"]),
        (changed("3", steps=None), ["node 3", "steps", "None is not a value"]),
        (changed("3", steps=0), ["node 3", "0 is out of range", "KSampler.steps takes", "1 to"]),
        (changed("3", cfg=101.5), ["node 3", "101.5 is out of range", "0.0 to 100.0"]),
        (
            changed("3", sampler_name="eulr"),
            [
                "node 3",
                "'eulr' is not in the list; did you mean 'euler'?",
                "and 3",
                "takes 'euler'",
            ],
        ),
        (
            changed("4", ckpt_name="y.safetensors"),
            [
                "node 4",
                "not in the list",
                "'sub/x.safetensors'",
                "declare it under environment.mod",
            ],
        ),
        (changed("8", vae=["4", 7]), ["node 8", "vae", "output 7 of node 4", "which has 3"]),
        (changed("8", vae=["4", 1]), ["node 8", "takes VAE, and output 1 of node 4", "gives CLIP"]),
        (changed("8", vae="vae"), ["node 8", "vae", "'vae' is not a link", "a link of type VAE"]),
        (
            {key: body for key, body in WORKFLOW.items() if key != "9"},
            ["workflow.json", "no output node", "add a Save Image node"],
        ),
    ],
)
def test_what_a_worker_would_refuse_is_told_with_its_place_and_a_way_out(
    graph: Graph, words: list[str]
) -> None:
    found = told(graph)

    assert [word for word in words if word not in found] == []
    assert len(found.splitlines()) == 1


def test_everything_is_told_in_one_go() -> None:
    graph = changed("3", steps=0, cfg=-1, sampler_name="nope", positive=["4", 0])

    assert len(told(graph).splitlines()) == 4


def test_numbers_as_text_are_taken_as_comfyui_takes_them() -> None:
    assert told(changed("3", steps="20", cfg="7.5")) == ""


def test_values_of_bound_inputs_are_not_looked_at() -> None:
    assert told(changed("3", steps=0), bound={("3", "steps")}) == ""


def test_what_no_output_needs_is_not_looked_at() -> None:
    stray = {"class_type": "KSampler", "inputs": {"steps": 0}}

    assert told({**WORKFLOW, "77": stray}) == ""


def test_a_binding_that_shapes_no_output_is_told() -> None:
    stray = {"class_type": "KSampler", "inputs": {"seed": 0}}

    found = told({**WORKFLOW, "77": stray}, bound={("77", "seed")})

    assert "nothing is made from node 77" in found


def test_without_declared_models_stock_definitions_take_any_model() -> None:
    assert told(changed("4", ckpt_name="any.safetensors"), STOCK) == ""


@pytest.mark.parametrize(
    ("name", "is_right"),
    [("there.safetensors", True), ("gone.safetensors", False), ("sub/x.safetensors", True)],
)
def test_a_worker_s_list_and_declared_models_together_are_what_is_there(
    *, name: str, is_right: bool
) -> None:
    found = told(changed("4", ckpt_name=name), worker(models=(MODEL,)))

    assert (found == "") is is_right
    assert is_right or "put the file on the worker, or declare it" in found


def test_a_windows_path_names_a_declared_model() -> None:
    assert told(changed("4", ckpt_name="sub\\x.safetensors")) == ""


def test_a_file_that_only_the_author_has_must_be_bound() -> None:
    graph: Graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "mine.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    }

    assert "bind it with kind: file" in told(graph, worker())
    assert told(graph, worker(), bound={("1", "image")}) == ""
    assert told(graph, STOCK) == ""


def test_custom_nodes_ask_for_a_worker_s_definitions() -> None:
    graph = WORKFLOW | {"7": {"class_type": "TheirNode", "inputs": {}}}
    definitions = Definitions(
        stock_definitions(), "the stock nodes", is_stock=True, custom_nodes=("https://example.org",)
    )

    found = told(graph, definitions)

    assert "object-info save --worker-url URL -o nodes.json beside catalog.yaml" in found


@pytest.mark.parametrize(
    ("target", "is_file", "words"),
    [
        (("6", "text"), True, "CLIPTextEncode.text takes text, not a file"),
        (("6", "txt"), False, "CLIPTextEncode takes no input 'txt' (it takes: text, clip)"),
    ],
)
def test_a_binding_into_an_input_that_takes_no_such_thing_is_told(
    *, target: tuple[str, str], is_file: bool, words: str
) -> None:
    graph = changed("6", txt="")

    [problem] = binding_problems(graph, [target], STOCK, where="inputs.a", is_file=is_file)

    assert words in str(problem)


@pytest.mark.parametrize(
    ("key", "value", "is_right"),
    [
        ("steps", 20, True),
        ("steps", 20.0, True),
        ("steps", 20.5, False),
        ("steps", "20", False),
        ("steps", True, False),
        ("cfg", 7, True),
        ("cfg", float("nan"), False),
        ("seed", 2**64 - 1, True),
        ("seed", -1, False),
        ("scheduler", "karras", True),
        ("scheduler", 3, False),
    ],
)
def test_our_own_values_must_be_exactly_what_is_taken(
    *, key: str, value: Any, is_right: bool
) -> None:
    spec = spec_of(STOCK, "KSampler", key)

    assert spec is not None
    assert (value_problem(spec, value, is_exact=True) is None) is is_right
