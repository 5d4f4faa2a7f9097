"""catalog.yaml: what it may say, and what is said about it when it is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from nightkiln.catalog import Catalog, catalog_digest, load_catalog
from nightkiln.core.errors import BadInput
from nightkiln.core.model import Need
from nightkiln.core.plan import SeedRule
from nightkiln.testing.samples import write_catalog

WORKFLOW = {
    "1": {
        "class_type": "KSampler",
        "inputs": {"seed": 0, "steps": 20, "cfg": 8.0, "latent_image": ["2", 0]},
    },
    "2": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "tiled": False}},
    "3": {"class_type": "LoadImage", "inputs": {"image": "x.png"}},
}
WHOLE: dict[str, Any] = {
    "name": "parti",
    "prompts": "prompts.parquet",
    "workflow": "workflow.json",
    "inputs": {
        "seed": {"to": "KSampler.seed", "default": "derived"},
        "steps": {"to": ["KSampler.steps"], "default": 20},
        "width": "EmptyLatentImage.width",
        "tiled": {"to": "2.tiled", "default": False},
        "image": {"to": "LoadImage.image", "kind": "file"},
    },
    "variants": {"seeds": 2},
    "needs": {"vram_gb": 12, "disk_gb": "auto", "gpus": "any", "trust": "verified"},
    "environment": {
        "comfyui": "0.3.75",
        "custom_nodes": [{"repo": "https://example.org/nodes", "ref": "v1"}],
        "models": [{"path": "checkpoints/x.safetensors", "url": "https://x", "sha256": "a" * 64}],
    },
    "reuse": "never",
    "verify": {"blank": "allow", "decode": "sample"},
}


def folder_with(folder: Path, changes: dict[str, Any] | None = None, text: str = "") -> Path:
    entries = WHOLE | (changes if changes is not None else {})
    (folder / "catalog.yaml").write_text(text or yaml.safe_dump(entries))
    (folder / "workflow.json").write_text(json.dumps(WORKFLOW))
    pq.write_table(pa.table({"width": [64]}), folder / "prompts.parquet")
    return folder


def told(folder: Path) -> str:
    with pytest.raises(BadInput) as caught:
        load_catalog(folder)
    return str(caught.value)


def loaded(folder: Path, **changes: Any) -> Catalog:
    return load_catalog(folder_with(folder, changes))


def test_everything_a_catalog_says_is_taken(tmp_path: Path) -> None:
    catalog = loaded(tmp_path)

    assert [item.name for item in catalog.inputs] == ["image", "seed", "steps", "tiled", "width"]
    assert catalog.seed is not None
    assert catalog.seed.seed_rule is SeedRule.DERIVED
    assert (catalog.variants, catalog.reuse, catalog.blank, catalog.decode) == (
        2,
        "never",
        "allow",
        "sample",
    )
    assert catalog.need == Need(vram_gb=12, disk_gb=None, gpus=(), trust="verified")
    assert catalog.environment.comfyui == "0.3.75"


def test_what_is_left_out_has_a_default(tmp_path: Path) -> None:
    short = {"name": "a", "prompts": "p.parquet", "workflow": "workflow.json"}
    folder = folder_with(tmp_path, text=yaml.safe_dump({**short, "inputs": {"width": "2.width"}}))

    catalog = load_catalog(folder / "catalog.yaml")

    assert (catalog.variants, catalog.reuse, catalog.need) == (1, "store", Need())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"promts": "x"}, "catalog.yaml: promts: there is no such key (did you mean prompts?)"),
        ({"needs": {"vram": 1}}, "needs.vram: there is no such key (did you mean vram_gb?)"),
        ({"inputs": {"a": {"too": "x"}}}, "inputs.a.too: there is no such key (did you mean to?)"),
        ({"inputs": {"a": {}}}, "inputs.a.to: is missing"),
        ({"inputs": {"a": 3}}, 'inputs.a: must be "<node>.<input>"'),
        ({"inputs": {"Steps": "1.steps", "steps": "1.cfg"}}, "are one column"),
        ({"inputs": {"a": {"to": "1.steps", "default": [1]}}}, "inputs.a.default: must be a text"),
        ({"environment": {"comfyui": 0.3}}, "environment.comfyui: must be a text (put it in quo"),
        ({"environment": {"models": [{"path": "../x"}]}}, "models.0.path: must be <folder>/<file>"),
        ({"environment": {"models": [{"pth": "a/x"}]}}, "did you mean path?"),
        ({"name": "No Good"}, "catalog.yaml: name:"),
        ({"prompts": 3}, "prompts: must be a path, glob or URI of Parquet"),
        ({"variants": {"seeds": 0}}, "variants.seeds:"),
        ({"needs": {"disk_gb": "much"}}, "needs.disk_gb: must be a number of GB, or auto"),
        ({"workflow": "gone.json"}, "gone.json: cannot be read: No such file"),
        ({"inputs": {"a": "Nope.x"}}, "inputs.a: 'Nope.x' names no node"),
        ({"inputs": {"a": {"to": "1.seed", "default": "derived", "kind": "file"}}}, "a file canno"),
        ({"inputs": {"width": "2.width"}}, "variants: variants need one seed input"),
        (
            {
                "inputs": {
                    "a": {"to": "1.seed", "default": "derived"},
                    "b": {"to": "1.steps", "default": "derived"},
                }
            },
            "inputs.b: a is the seed already",
        ),
    ],
)
def test_a_mistake_is_named_by_file_and_key(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    assert words in told(folder_with(tmp_path, changes))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [", "catalog.yaml line"),
        ("- 1", "not a mapping"),
        ("name: a\nname: b", "catalog.yaml line 2: not YAML: the key 'name' stands here twice"),
        ("x: !!python/object/apply:os.system [ls]", "not YAML"),
    ],
)
def test_what_is_not_such_a_file_is_refused(tmp_path: Path, text: str, words: str) -> None:
    assert words in told(folder_with(tmp_path, text=text))


def test_a_folder_without_a_catalog_says_how_to_make_one(tmp_path: Path) -> None:
    assert "nightkiln init" in told(tmp_path)


def test_all_mistakes_are_told_in_one_go(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {"inputs": {"a": "Nope.x", "b": "1.nope"}, "needs": {}})

    assert len(told(folder).splitlines()) == 3  # two bindings, and variants without a seed


def test_an_override_is_read_as_what_it_replaces(tmp_path: Path) -> None:
    catalog = loaded(tmp_path)

    changed = catalog.with_overrides(
        {"steps": "4", "width": "64", "tiled": "true", "image": "7.png", "seed": "5"}
    )

    assert {item.name: item.default for item in changed.inputs} == {
        "steps": 4,
        "width": 64,
        "tiled": True,
        "image": "7.png",
        "seed": 5,
    }
    assert changed.seed is not None
    assert changed.seed.seed_rule is SeedRule.GIVEN


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("stps", "4", "--set stps: catalog.yaml has no such input (did you mean steps?)"),
        ("steps", "many", "--set steps: 'many' is not a number"),
        ("steps", "nan", "is not a number"),
        ("tiled", "1", "is not true or false"),
    ],
)
def test_an_override_that_fits_nothing_is_refused(
    tmp_path: Path, name: str, value: str, words: str
) -> None:
    with pytest.raises(BadInput) as caught:
        loaded(tmp_path).with_overrides({name: value})

    assert words in str(caught.value)


def test_the_digest_sees_what_decides_the_jobs_and_nothing_else(tmp_path: Path) -> None:
    catalog = loaded(tmp_path)
    same = [loaded(tmp_path, reuse="store"), loaded(tmp_path, needs={"vram_gb": 1})]
    models = [{"path": "checkpoints/x.safetensors", "sha256": "b" * 64}]
    other = [
        catalog.with_limit(1),
        catalog.with_overrides({"steps": 1}),
        loaded(tmp_path, variants={"seeds": 3}),
        loaded(tmp_path, environment={"models": models}),
        loaded(tmp_path, prompts={"sql": "SELECT * FROM 'prompts.parquet'"}),
    ]

    digests = {catalog_digest(one) for one in [catalog, *same]}
    pq.write_table(pa.table({"width": [65]}), tmp_path / "prompts.parquet")
    digests |= {catalog_digest(one) for one in [catalog, *other]}

    assert len(digests) == 1 + 1 + len(other)


def test_the_digest_sees_the_files_that_a_query_names(tmp_path: Path) -> None:
    catalog = loaded(tmp_path, prompts={"sql": "SELECT * FROM 'prompts.parquet'"})

    before = catalog_digest(catalog)
    pq.write_table(pa.table({"width": [65]}), tmp_path / "prompts.parquet")

    assert catalog_digest(catalog) != before


@pytest.mark.parametrize(
    ("keys", "trust"),
    [
        ({}, "any"),
        ({"needs": {"trust": "verified"}}, "verified"),
        ({"private": True}, "datacenter"),
        ({"private": True, "needs": {"trust": "verified"}}, "datacenter"),
        ({"private": False, "needs": {"trust": "datacenter"}}, "datacenter"),
    ],
)
def test_what_is_private_is_for_datacenters_at_least(
    keys: dict[str, Any], trust: str, tmp_path: Path
) -> None:
    catalog = load_catalog(write_catalog(tmp_path, 1, **keys))

    assert catalog.need.trust == trust
