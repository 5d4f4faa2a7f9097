"""Preflight of a whole catalog: every kind of mistake, named so that it can be found and mended."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.catalog import CatalogInput, check, definitions_for, read_catalog
from nightkiln.catalog.conditions import conditions
from nightkiln.core.errors import BadInput
from nightkiln.core.specs import Definitions, Spec, spec_of, value_problem
from nightkiln.nodes import stock_definitions
from nightkiln.testing.comfyui.process import stand_in_process
from tests.examples import few

WORKFLOW: dict[str, Any] = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "x.safetensors"}},
    "2": {
        "class_type": "CLIPTextEncode",
        "inputs": {"text": "", "clip": ["1", 1]},
        "_meta": {"title": "Positive Prompt"},
    },
    "3": {"class_type": "LoadImage", "inputs": {"image": "x.png"}},
    "4": {"class_type": "VAEEncode", "inputs": {"pixels": ["3", 0], "vae": ["1", 2]}},
    "5": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 0,
            "steps": 20,
            "cfg": 8.0,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 1.0,
            "model": ["1", 0],
            "positive": ["2", 0],
            "negative": ["2", 0],
            "latent_image": ["4", 0],
        },
    },
    "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
    "7": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": "x"}},
}
ENTRIES: dict[str, Any] = {
    "name": "foxes",
    "prompts": "prompts.parquet",
    "workflow": "workflow.json",
    "inputs": {
        "prompt": "Positive Prompt.text",
        "seed": {"to": "KSampler.seed", "default": "derived"},
        "steps": {"to": "KSampler.steps", "default": 20},
        "cfg": {"to": "KSampler.cfg", "default": 8.0},
        "sampler": {"to": "KSampler.sampler_name", "default": "euler"},
        "image": {"to": "LoadImage.image", "kind": "file"},
    },
    "variants": {"seeds": 2},
    "environment": {"models": [{"path": "checkpoints/x.safetensors"}]},
}
ROWS: dict[str, list[Any]] = {
    "id": [10, 11, 12],
    "prompt": ["a fox", "a hare", "an owl"],
    "image": ["fox.png", "fox.png", "fox.png"],
}


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def folder_with(
    folder: Path,
    *,
    rows: dict[str, Any] | None = None,
    entries: dict[str, Any] | None = None,
    workflow: Any = None,
) -> Path:
    (folder / "fox.png").write_bytes(b"fox")
    table = pa.table({**ROWS, **(rows if rows is not None else {})})
    pq.write_table(table, folder / "prompts.parquet")
    text = json.dumps(WORKFLOW if workflow is None else workflow)
    (folder / "workflow.json").write_text(text)
    changed = ENTRIES | (entries if entries is not None else {})
    (folder / "catalog.yaml").write_text(yaml.safe_dump(changed))
    return folder


def told(folder: Path, con: duckdb.DuckDBPyConnection) -> list[str]:
    catalog, problems = read_catalog(folder)
    if catalog is not None:
        problems += check(catalog, definitions_for(catalog), con)
    return [str(problem) for problem in problems]


def test_a_sound_catalog_has_no_problems(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    rows = {
        "seed": pa.array([0, None, 2**64 - 2], pa.uint64()),
        "steps": [1, None, 30],
        "sampler": ["euler", None, "dpmpp_2m"],
        "note": ["", None, "anything"],
    }

    assert told(folder_with(tmp_path, rows=rows), con) == []


def without(node: str, key: str) -> dict[str, Any]:
    graph = copy.deepcopy(WORKFLOW)
    del graph[node]["inputs"][key]
    return graph


def changed(node: str, **inputs: Any) -> dict[str, Any]:
    graph = copy.deepcopy(WORKFLOW)
    graph[node]["inputs"].update(inputs)
    return graph


def bound(**inputs: Any) -> dict[str, Any]:
    return {"inputs": {**ENTRIES["inputs"], **inputs}}


PLACE = "prompts.parquet column "
MISTAKES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown node": (
        {"workflow": {**WORKFLOW, "9": {"class_type": "Nope", "inputs": {}}}},
        ["workflow.json node 9", "'Nope' is not among the stock nodes", "object-info save"],
    ),
    "missing input": (
        {"workflow": without("5", "scheduler")},
        ["workflow.json node 5", "'scheduler' is missing", "export again"],
    ),
    "wrong type in the workflow": (
        {"workflow": changed("5", denoise="much")},
        ["workflow.json node 5", "denoise", "'much' is not a number", "from 0.0 to 1.0"],
    ),
    "out of range in the workflow": (
        {"workflow": changed("5", denoise=3)},
        ["workflow.json node 5", "3 is out of range", "from 0.0 to 1.0"],
    ),
    "value not in list": (
        {"workflow": changed("5", scheduler="norml")},
        ["workflow.json node 5", "'norml' is not in the list", "did you mean 'normal'?"],
    ),
    "model not declared": (
        {"workflow": changed("1", ckpt_name="y.safetensors")},
        ["workflow.json node 1", "not in the list", "declare it under environment.models"],
    ),
    "dangling link": (
        {"workflow": changed("6", vae=["99", 0])},
        ["workflow.json node 6", "linked to node 99, which does not exist", "reconnect"],
    ),
    "bad slot": (
        {"workflow": changed("6", vae=["1", 3])},
        ["workflow.json node 6", "output 3 of node 1", "which has 3", "export again"],
    ),
    "link type mismatch": (
        {"workflow": changed("6", vae=["1", 0])},
        ["workflow.json node 6", "takes VAE", "gives MODEL", "export again"],
    ),
    "no output node": (
        {"workflow": {key: body for key, body in WORKFLOW.items() if key != "7"}},
        ["workflow.json", "no output node", "add a Save Image node"],
    ),
    "circle": (
        {"workflow": changed("4", pixels=["6", 0])},
        ["workflow.json", "in a circle", "break the circle"],
    ),
    "editor's format": (
        {"workflow": {"nodes": [], "links": []}},
        ["workflow.json", "the editor's own (UI) format", "Workflow > Export (API)"],
    ),
    "binding that names nothing": (
        {"entries": bound(words={"to": "Nope.text", "default": ""})},
        ["catalog.yaml: inputs.words", "'Nope.text' names no node", "Positive Prompt"],
    ),
    "file bound to text": (
        {"entries": bound(prompt={"to": "Positive Prompt.text", "kind": "file"})},
        ["catalog.yaml: inputs.prompt", "takes text, not a file", "LoadImage.image"],
    ),
    "wrong default": (
        {"entries": bound(steps={"to": "KSampler.steps", "default": 0})},
        ["catalog.yaml: inputs.steps default", "0 is out of range", "from 1 to 10000"],
    ),
    "derived where no seed goes": (
        {
            "entries": bound(
                seed={"to": "KSampler.steps", "default": "derived"}, steps="KSampler.seed"
            )
        },
        ["catalog.yaml: inputs.seed default", "whole number up to", "give the seeds in a column"],
    ),
    "missing column": (
        {"entries": bound(denoise="KSampler.denoise")},
        ["prompts.parquet", "has no column 'denoise'", "columns: id, prompt, image", "a default"],
    ),
    "null prompt": (
        {"rows": {"prompt": ["a fox", None, None]}},
        [PLACE + "'prompt'", "is null: row 1, row 2", "fill it, or give inputs.prompt a default"],
    ),
    "wrong type in a column": (
        {"rows": {"steps": ["20", "20", "20"]}},
        [PLACE + "'steps'", "is of type VARCHAR", "takes a whole number", "cast it"],
    ),
    "number for a prompt": (
        {"rows": {"prompt": [1, 2, 3]}},
        [PLACE + "'prompt'", "is of type BIGINT", "takes text", "cast it"],
    ),
    "list for a prompt": (
        {"rows": {"prompt": [["a"], ["b"], ["c"]]}},
        [PLACE + "'prompt'", "VARCHAR[], which cannot be bound", "cast it"],
    ),
    "not a whole number": (
        {"rows": {"steps": [20.0, 20.5, 1.0]}},
        [PLACE + "'steps'", "is not a whole number: row 1 ('20.5')", "from 1 to 10000"],
    ),
    "not a number at all": (
        {"rows": {"cfg": [7.0, float("nan"), 8.0]}},
        [PLACE + "'cfg'", "is not a number: row 1 ('nan')"],
    ),
    "out of range in a column": (
        {"rows": {"steps": [0, 20, 10_001]}},
        [PLACE + "'steps'", "is out of range: row 0 ('0'), row 2 ('10001')", "from 1 to 10000"],
    ),
    "seed out of range by its variants": (
        {"rows": {"seed": pa.array([0, 1, 2**64 - 1], pa.uint64())}},
        [PLACE + "'seed'", "row 2 ('18446744073709551615')", "less 1 for variants"],
    ),
    "value not in list in a column": (
        {"rows": {"sampler": ["euler", "eulr", "euler"]}},
        [PLACE + "'sampler'", "is not in the list: row 1 ('eulr')", "takes 'euler'"],
    ),
    "duplicate ids": (
        {"rows": {"id": [7, 8, 7]}},
        [PLACE + "'id'", "holds ids twice: '7' in rows 0 and 2", "make them unique"],
    ),
    "missing input file": (
        {"rows": {"image": ["fox.png", "gone.png", "gone.png"]}},
        ["prompts.parquet row 1 column 'image': file gone.png", "does not exist", "relative to"],
    ),
    "file outside the catalog": (
        {"rows": {"image": ["fox.png", "../x.png", "fox.png"]}},
        ["row 1 column 'image': file ../x.png", "outside the catalog's folder", "copy or link"],
    ),
    "missing default file": (
        {"entries": bound(image={"to": "LoadImage.image", "kind": "file", "default": "no.png"})},
        ["catalog.yaml: inputs.image default: file no.png", "does not exist"],
    ),
    "binary column": (
        {"rows": {"blob": [b"x", b"y", b"z"]}},
        ["prompts.parquet", "column 'blob' is binary", "EXCLUDE"],
    ),
    "prompts that are not there": (
        {"entries": {"prompts": "gone.parquet"}},
        ["gone.parquet", "no such file", "nightkiln init"],
    ),
    "prompts that are no Parquet": (
        {"entries": {"prompts": "workflow.json"}},
        ["workflow.json", "is not a Parquet file", "nightkiln init converts"],
    ),
    "query that is none": (
        {"entries": {"prompts": {"sql": "DROP TABLE x"}}},
        ["catalog.yaml: prompts.sql", "not one SELECT", "single SELECT"],
    ),
    "query that fails": (
        {"entries": {"prompts": {"sql": "SELECT nope FROM 'prompts.parquet'"}}},
        ["catalog.yaml: prompts.sql", "cannot be read", "nope"],
    ),
}

MORE_TO_SAY = {"derived where no seed goes", "file bound to text"}  # one mistake, two findings


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_with_its_place_and_what_to_do(
    tmp_path: Path, con: duckdb.DuckDBPyConnection, name: str
) -> None:
    changes, words = MISTAKES[name]

    found = told(folder_with(tmp_path, **changes), con)

    assert any(all(word in line for word in words) for line in found), found
    assert len(found) == 1 or name in MORE_TO_SAY, found


def test_empty_parquet_is_told(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    folder = folder_with(tmp_path)
    pq.write_table(pa.table(ROWS).slice(0, 0), folder / "prompts.parquet")

    assert told(folder, con) == ["prompts.parquet: holds no rows (there is nothing to render)"]


def test_a_file_cut_short_is_not_parquet(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    path = folder_with(tmp_path) / "prompts.parquet"
    path.write_bytes(path.read_bytes()[:-1])

    assert "prompts.parquet: is not a Parquet file" in told(tmp_path, con)[0]


def test_mistakes_everywhere_are_told_in_one_go(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    folder = folder_with(
        tmp_path,
        workflow=changed("5", denoise=3),
        rows={"prompt": ["a", None, "c"], "steps": [0, 1, 2], "id": [1, 1, 2]},
        entries=bound(words="Nope.text"),
    )

    assert len(told(folder, con)) == 6  # the binding that fails also lacks its column


def test_a_column_without_a_value_may_have_any_type(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    rows = {"sampler": pa.nulls(3), "cfg": pa.array([None] * 3, pa.string())}

    assert told(folder_with(tmp_path, rows=rows), con) == []


def test_an_override_takes_the_place_of_a_column_that_is_wrong(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    catalog, _ = read_catalog(folder_with(tmp_path, rows={"steps": [0, 0, 0]}))
    assert catalog is not None

    changed_catalog = catalog.with_overrides({"steps": "4"})

    assert check(changed_catalog, definitions_for(catalog), con) == []


def test_a_saved_copy_beside_the_catalog_is_what_counts(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    nodes = stock_definitions()
    nodes["TheirSave"] = nodes["SaveImage"]
    folder = folder_with(
        tmp_path, workflow=json.loads(json.dumps(WORKFLOW).replace("SaveImage", "TheirSave"))
    )

    before = told(folder, con)
    (folder / "nodes.json").write_text(json.dumps(nodes))

    assert len(before) == 1
    assert told(folder, con) == []


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"X": 3}'])
def test_a_saved_copy_that_holds_no_definitions_is_refused(tmp_path: Path, content: str) -> None:
    catalog, _ = read_catalog(folder_with(tmp_path))
    (tmp_path / "saved.json").write_text(content)
    assert catalog is not None

    with pytest.raises(BadInput, match=r"saved.json.*object-info save"):
        definitions_for(catalog, saved=tmp_path / "saved.json")


def test_a_worker_that_does_not_answer_is_named(tmp_path: Path) -> None:
    catalog, _ = read_catalog(folder_with(tmp_path))
    assert catalog is not None

    with pytest.raises(BadInput, match=r"http://127.0.0.1:9: did not tell its nodes"):
        definitions_for(catalog, worker_url="http://127.0.0.1:9")


def test_a_running_worker_says_what_it_has(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    catalog, _ = read_catalog(
        folder_with(tmp_path, workflow=changed("1", ckpt_name="no.safetensors"))
    )
    assert catalog is not None

    with stand_in_process() as server:
        definitions = definitions_for(catalog, worker_url=server.url)
        [problem] = check(catalog, definitions, con)

    assert not definitions.is_stock
    assert server.url in definitions.source
    assert "put the file on the worker, or declare it" in problem.fix


NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 20_000)
FRACTIONS = st.floats(width=64) | st.integers(-5, 200).map(float)


@given(
    st.sampled_from(["steps", "cfg", "seed"]),
    st.lists(NUMBERS, min_size=1) | st.lists(FRACTIONS, min_size=1),
)
@few(30, of=500)
def test_a_column_is_judged_as_each_of_its_values_would_be(key: str, values: list[Any]) -> None:
    nodes = Definitions(stock_definitions(), "the stock nodes", is_stock=True)
    spec = spec_of(nodes, "KSampler", key)
    assert spec is not None
    item = CatalogInput(key, (f"KSampler.{key}",))
    table = pa.table({"row": range(len(values)), "it": values})

    with duckdb.connect() as con:
        con.register("judged", table)
        kind = con.execute("SELECT typeof(it) FROM judged").fetchall()[0][0]
        found = conditions(item, "it", kind, [spec], nodes, beyond=0, key="0")
        wrong = " OR ".join(f"({condition.sql})" for condition in found)
        rows = con.execute(f"SELECT row FROM judged WHERE {wrong}").fetchall()  # noqa: S608

    assert {row for (row,) in rows} == {
        row
        for row, value in enumerate(values)
        if value_problem(spec, value, is_exact=True) is not None or _is_too_large(spec, value)
    }


def _is_too_large(spec: Spec, value: float) -> bool:
    """Doubles lose whole numbers up there, so a column of them cannot hold such a seed."""
    return spec.kind == "INT" and isinstance(value, float) and abs(value) >= 2**53
