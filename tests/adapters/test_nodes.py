"""Node definitions reduced to facts."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nightkiln.nodes import ANY_TYPE, FACTS, compact, stock_definitions
from tests.nested import nested

JSON = nested(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    keys=st.text(max_size=8),
)


def test_the_stock_definitions_hold_the_nodes_of_a_plain_text_to_image_graph() -> None:
    stock = stock_definitions()

    assert stock["KSampler"]["input"]["required"]["steps"] == [
        "INT",
        {"default": 20, "min": 1, "max": 10000},
    ]
    assert "euler" in stock["KSampler"]["input"]["required"]["sampler_name"][0]
    assert stock["CheckpointLoaderSimple"]["output"] == ["MODEL", "CLIP", "VAE"]
    assert stock["SaveImage"]["output_node"] is True
    assert stock["LoadImage"]["input"]["required"]["image"] == [[], {"image_upload": True}]


def test_a_list_that_depends_on_the_machine_is_empty_in_the_stock_definitions() -> None:
    stock = stock_definitions()

    assert stock["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0] == []
    assert stock["VAELoader"]["input"]["required"]["vae_name"][0] == []


def test_the_stock_definitions_hold_facts_and_no_prose() -> None:
    inputs = [
        spec
        for definition in stock_definitions().values()
        for section in definition["input"].values()
        for spec in section.values()
    ]

    assert len(inputs) > 1000
    assert all(set(facts) <= set(FACTS) for _, facts in inputs)


def test_reducing_twice_changes_nothing() -> None:
    stock = stock_definitions()

    assert compact(stock) == stock


def test_both_ways_to_write_a_choice_come_out_the_same() -> None:
    def node(spec: list[Any]) -> dict[str, Any]:
        return {"Save": {"input": {"required": {"codec": spec}}, "output": [], "output_node": True}}

    old = compact(node([["vp9", "av1"], {"tooltip": "prose", "default": "vp9"}]))
    new = compact(node(["COMBO", {"options": ["vp9", "av1"], "default": "vp9"}]))

    assert old == new
    assert old["Save"]["input"]["required"]["codec"] == [["vp9", "av1"], {"default": "vp9"}]


def test_an_input_that_cannot_be_read_takes_anything() -> None:
    odd = {"Odd": {"input": {"required": {"a": 7, "b": [], "c": [{}]}}, "output": [["x"]]}}

    assert compact(odd) == {
        "Odd": {
            "input": {"required": {name: [ANY_TYPE, {}] for name in "abc"}, "optional": {}},
            "output": ["COMBO"],
            "output_node": False,
        }
    }


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_whatever_a_worker_answers_can_be_reduced(answer: dict[str, Any]) -> None:
    once = compact(answer)

    assert compact(once) == once
