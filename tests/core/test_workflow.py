"""Workflows: what selectors name, what digests see, what binding changes."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.core.errors import BadInput, Problem
from nightkiln.core.model import Graph, InputFile, Job, JobId
from nightkiln.core.workflow import Binding, Template, outputs_expected, parse, select

TEXT_TO_IMAGE: Graph = {
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "x.safetensors"}},
    "5": {
        "class_type": "EmptyLatentImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 1},
    },
    "6": {
        "class_type": "CLIPTextEncode",
        "inputs": {"text": "a fox", "clip": ["4", 1]},
        "_meta": {"title": "Positive Prompt"},
    },
    "7": {
        "class_type": "CLIPTextEncode",
        "inputs": {"text": "", "clip": ["4", 1]},
        "_meta": {"title": "Negative Prompt"},
    },
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 7,
            "steps": 20,
            "cfg": 8.0,
            "model": ["4", 0],
            "positive": ["6", 0],
            "negative": ["7", 0],
            "latent_image": ["5", 0],
        },
    },
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {
        "class_type": "SaveImage",
        "inputs": {"images": ["8", 0], "filename_prefix": "ComfyUI"},
    },
}
PROMPT_AND_SEED = {
    "prompt": Binding(("Positive Prompt.text",)),
    "seed": Binding(("KSampler.seed",)),
}


def changed(node: str, **inputs: Any) -> Graph:
    graph = copy.deepcopy(TEXT_TO_IMAGE)
    graph[node]["inputs"].update(inputs)
    return graph


def digest(graph: Graph, bindings: dict[str, Binding] | None = None) -> str:
    return Template(graph, PROMPT_AND_SEED if bindings is None else bindings).digest


def problems_of(graph: Graph, bindings: dict[str, Binding] | None = None) -> str:
    with pytest.raises(BadInput) as caught:
        Template(graph, bindings if bindings is not None else {}, where="workflow.json")
    return str(caught.value)


@pytest.mark.parametrize(
    ("selector", "target"),
    [
        ("Positive Prompt.text", ("6", "text")),
        ("KSampler.seed", ("3", "seed")),
        ("7.text", ("7", "text")),
    ],
)
def test_a_selector_is_a_title_else_a_class_else_an_id(
    selector: str, target: tuple[str, str]
) -> None:
    assert select(TEXT_TO_IMAGE, selector) == target


def test_titles_and_inputs_may_hold_dots() -> None:
    graph: Graph = {
        "1": {"class_type": "Resize", "inputs": {"to.width": 1}, "_meta": {"title": "v1.5"}}
    }

    assert select(graph, "v1.5.to.width") == ("1", "to.width")


def test_an_ambiguous_selector_lists_the_candidates() -> None:
    problem = select(TEXT_TO_IMAGE, "CLIPTextEncode.text")

    assert isinstance(problem, Problem)
    assert "names 2 nodes" in problem.what
    assert "6.text, 7.text" in problem.fix


def test_an_unknown_node_lists_those_that_are_there() -> None:
    problem = select(TEXT_TO_IMAGE, "Sampler.seed")

    assert isinstance(problem, Problem)
    assert "KSampler" in problem.fix
    assert "Positive Prompt" in problem.fix


def test_an_unknown_input_lists_the_node_s_own() -> None:
    problem = select(TEXT_TO_IMAGE, "KSampler.sed")

    assert isinstance(problem, Problem)
    assert "node 3" in problem.what
    assert "cfg, seed, steps" in problem.fix


def test_a_linked_input_cannot_be_bound() -> None:
    problem = select(TEXT_TO_IMAGE, "KSampler.positive")

    assert isinstance(problem, Problem)
    assert "linked" in problem.what
    assert "Positive Prompt" in problem.fix


def test_every_wrong_binding_is_told_at_once() -> None:
    told = problems_of(
        TEXT_TO_IMAGE, {"a": Binding(("Nope.x",)), "b": Binding(("KSampler.nope", "3.nope"))}
    )

    assert told.count("workflow.json: inputs.") == 3


def test_two_bindings_cannot_share_an_input() -> None:
    told = problems_of(TEXT_TO_IMAGE, {"a": Binding(("3.seed",)), "b": Binding(("KSampler.seed",))})

    assert "already bound by inputs.a" in told


def test_a_dangling_link_is_told_with_its_node() -> None:
    assert "node 8 \"VAEDecode\": input 'vae' is linked to node 44" in problems_of(
        changed("8", vae=["44", 2])
    )


def test_a_circle_is_told() -> None:
    assert "in a circle" in problems_of(changed("6", clip=["9", 0]))


def renumbered(graph: Graph, ids: dict[str, str]) -> Graph:
    text = {
        ids[node]: {
            "class_type": body["class_type"],
            "inputs": {
                key: [ids[value[0]], value[1]] if isinstance(value, list) else value
                for key, value in body["inputs"].items()
            },
            "_meta": {"title": body.get("_meta", {}).get("title", body["class_type"])},
        }
        for node, body in graph.items()
    }
    return dict(sorted(text.items()))


@given(st.randoms(use_true_random=False))
def test_the_digest_does_not_see_numbering_order_or_meta(rng: random.Random) -> None:
    ids = list(TEXT_TO_IMAGE)
    others = rng.sample([str(number) for number in range(100)], len(ids))

    assert digest(renumbered(TEXT_TO_IMAGE, dict(zip(ids, others, strict=True)))) == digest(
        TEXT_TO_IMAGE
    )


@pytest.mark.parametrize(
    "graph",
    [
        changed("9", filename_prefix="elsewhere"),
        changed("3", seed=8),
        changed("6", text="a hare"),
        changed("3", cfg=8),
    ],
    ids=["filename_prefix", "a bound number", "a bound text", "8 for 8.0"],
)
def test_the_digest_does_not_see_what_does_not_shape_the_pixels(graph: Graph) -> None:
    assert digest(graph) == digest(TEXT_TO_IMAGE)


@pytest.mark.parametrize(
    "graph",
    [
        changed("3", steps=21),
        changed("3", positive=["7", 0]),
        changed("8", vae=["4", 1]),
        changed("7", text="blurry"),
        changed("3", steps=True),
    ],
)
def test_the_digest_sees_every_other_value_and_link(graph: Graph) -> None:
    assert digest(graph) != digest(TEXT_TO_IMAGE)


def test_the_digest_sees_which_input_is_bound_where() -> None:
    swapped = {"prompt": Binding(("7.text",)), "seed": Binding(("3.seed",))}
    renamed = {"text": Binding(("6.text",)), "seed": Binding(("3.seed",))}

    assert len({digest(TEXT_TO_IMAGE), digest(TEXT_TO_IMAGE, swapped)}) == 2
    assert digest(TEXT_TO_IMAGE, renamed) != digest(TEXT_TO_IMAGE)


def test_the_digest_never_changes_between_releases() -> None:
    assert digest(TEXT_TO_IMAGE) == (
        "620b04171bbc3d49f684305c20ce5ffb64a8e15d88252f131d4b7541f4684d76"
    )


def test_binding_fills_every_target_and_leaves_the_template_alone() -> None:
    before = copy.deepcopy(TEXT_TO_IMAGE)
    bindings = {"words": Binding(("6.text", "7.text")), "seed": Binding(("3.seed",))}
    template = Template(TEXT_TO_IMAGE, bindings)

    bound = template.bind(Job(JobId("j"), {"words": "a hare", "seed": 3}))

    assert bound.graph["6"]["inputs"]["text"] == bound.graph["7"]["inputs"]["text"] == "a hare"
    assert bound.graph["3"]["inputs"]["seed"] == 3
    assert bound.outputs_expected == 1
    assert template.graph == before


def test_a_file_is_bound_under_its_digest_and_its_targets_are_told() -> None:
    graph: Graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "old.gif"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
    }
    fox = InputFile("/tmp/fox.png", "f" * 64, 10, ".png")

    bound = Template(graph, {"image": Binding(("LoadImage.image",), is_file=True)}).bind(
        Job(JobId("j"), {"image": fox.sha256}, {"image": fox})
    )

    assert bound.graph["1"]["inputs"]["image"] == "f" * 64 + ".png"
    assert [(file.file, file.targets) for file in bound.files] == [(fox, (("1", "image"),))]
    assert bound.outputs_expected == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "0 nodes"),
        ('{"nodes": [], "links": []}', "Workflow > Export (API)"),
        ('{"1": {"inputs": {}}}', "node 1: has no class_type"),
        ('{"1": {"class_type": "X"}}', "node 1: has no inputs"),
    ],
)
def test_what_is_not_an_api_workflow_is_refused_with_the_way_out(text: str, told: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse(text, where="workflow.json")

    assert told in str(caught.value)
    assert "workflow.json" in str(caught.value)


def test_an_api_workflow_is_taken_as_it_is() -> None:
    assert parse(json.dumps(TEXT_TO_IMAGE)) == TEXT_TO_IMAGE


@pytest.mark.parametrize(
    ("graph", "count"),
    [
        (TEXT_TO_IMAGE, 1),
        (changed("5", batch_size=4), 4),
        (changed("5", batch_size=["4", 0]), None),
        (changed("5", batch_size="4"), None),
        (
            TEXT_TO_IMAGE | {"10": {"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}}},
            2,
        ),
        (TEXT_TO_IMAGE | {"10": {"class_type": "SomebodysNode", "inputs": {}}}, None),
        (changed("3", latent_image=["3", 0]), None),
        ({"1": {"class_type": "EmptyImage", "inputs": {"batch_size": 2}}}, None),
    ],
)
def test_outputs_are_counted_only_where_they_are_certain(graph: Graph, count: int | None) -> None:
    assert outputs_expected(graph) == count
