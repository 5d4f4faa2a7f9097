"""The first five minutes: make a catalog, check it, see what is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner, Result

from nightkiln.catalog import load_catalog
from nightkiln.cli import check, init, object_info, schema
from nightkiln.core.errors import BadInput
from nightkiln.testing.samples import write_catalog

CATALOGS = Path(__file__).parents[2] / "catalogs"
app = typer.Typer()
app.command("check")(check.check)
app.command("init")(init.init)
app.add_typer(schema.app, name="schema")
app.add_typer(object_info.app, name="object-info")


def nightkiln(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(*arguments: object) -> str:
    error = nightkiln(*arguments).exception
    assert isinstance(error, BadInput), error
    return str(error)


@pytest.fixture
def workflow() -> Path:
    return CATALOGS / "parti" / "workflow.json"


def prompts(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_good_catalog_is_shown_with_what_goes_where() -> None:
    result = nightkiln("check", CATALOGS / "demo")

    assert result.exit_code == 0
    assert "is good, checked against the stock nodes" in result.output
    assert "24 rows, 24 jobs" in result.output
    assert "Positive Prompt.text" in result.output


def test_a_good_catalog_as_json() -> None:
    result = nightkiln("check", CATALOGS / "demo", "--json", "--limit", 3, "--set", "steps=4")

    found = json.loads(result.output)
    assert (found["is_good"], found["rows"], found["jobs"]) == (True, 3, 3)
    assert {"input": "steps", "from": "4", "to": ["KSampler.steps"]} in found["bindings"]


def test_a_bad_catalog_ends_with_2_and_every_problem(tmp_path: Path) -> None:
    shutil.copytree(CATALOGS / "demo", tmp_path / "demo")
    table = pa.table({"prompt": ["a fox", None], "steps": [0, 1]})
    pq.write_table(table, tmp_path / "demo" / "prompts.parquet")

    result = nightkiln("check", tmp_path / "demo")
    as_json = nightkiln("check", tmp_path / "demo", "--json")

    assert result.exit_code == as_json.exit_code == 2
    assert "2 problems" in result.output
    assert "prompts.parquet column 'prompt'" in result.output
    assert "-> KSampler.steps takes a whole number from 1 to 10000" in result.output
    assert len(json.loads(as_json.output)["problems"]) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "stps=4"], "did you mean steps?"),
        (["--set", "steps=0"], "0 is out of range"),
        (["--object-info", "gone.json"], "object-info save"),
    ],
)
def test_what_is_asked_of_a_catalog_is_checked_too(arguments: list[str], words: str) -> None:
    result = nightkiln("check", CATALOGS / "demo", *arguments)

    assert result.exit_code == 2
    assert words in result.output


def test_nothing_in_a_strangers_catalog_is_markup_or_commands_the_terminal(tmp_path: Path) -> None:
    odd = "[/x] \x1b]0;owned\x07"
    inputs = {
        "prompt": "Positive Prompt.text",
        "negative": {"to": "Negative Prompt.text", "default": odd},
    }
    good = nightkiln("check", write_catalog(tmp_path / "good", 1, inputs=inputs))
    (tmp_path / "good" / "catalog.yaml").write_text(f"name: sample\n{json.dumps(odd)}: 1\n")
    bad = nightkiln("check", tmp_path / "good")

    assert (good.exit_code, bad.exit_code) == (0, 2)
    assert "[/x]" in good.stdout
    assert "[/x]" in bad.stdout
    assert "\x1b" not in good.stdout + bad.stdout


def test_a_folder_without_a_catalog_says_what_makes_one(tmp_path: Path) -> None:
    result = nightkiln("check", tmp_path)

    assert result.exit_code == 2
    assert "nightkiln init makes a catalog" in result.output


def test_the_schema_knows_every_key() -> None:
    found = json.loads(nightkiln("schema", "catalog").output)

    assert set(found["properties"]) == {
        "name",
        "prompts",
        "workflow",
        "inputs",
        "variants",
        "needs",
        "environment",
        "private",
        "reuse",
        "verify",
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.csv", 'prompt,steps,mood\n"a fox, red",4,calm\na hare,8,wild\n'),
        ("p.tsv", "prompt\tsteps\tmood\na fox, red\t4\tcalm\na hare\t8\twild\n"),
        (
            "p.jsonl",
            (
                '{"prompt": "a fox, red", "steps": 4, "mood": "calm"}\n'
                '{"prompt": "a hare", "steps": 8, "mood": "wild"}\n'
            ),
        ),
        (
            "p.json",
            (
                '[{"prompt": "a fox, red", "steps": 4, "mood": "calm"},'
                '{"prompt": "a hare", "steps": 8, "mood": "wild"}]'
            ),
        ),
    ],
)
def test_init_makes_a_catalog_that_is_good_as_it_is(
    tmp_path: Path, workflow: Path, name: str, text: str
) -> None:
    folder = tmp_path / "My Foxes"

    result = nightkiln(
        "init", folder, "--workflow", workflow, "--prompts", prompts(tmp_path, name, text)
    )

    assert result.exit_code == 0, result.output
    assert "2 rows, 2 jobs" in result.output
    assert f"next: nightkiln run {folder}" in result.output
    catalog = load_catalog(folder)
    assert catalog.name == "my-foxes"
    assert {item.name: item.to for item in catalog.inputs} == {
        "prompt": ("Positive Prompt.text",),
        "negative": ("Negative Prompt.text",),
        "seed": ("KSampler.seed",),
        "steps": ("KSampler.steps",),
        "checkpoint": ("Checkpoint.ckpt_name",),
        "width": ("Image Size.width",),
        "height": ("Image Size.height",),
    }
    assert pq.read_table(folder / "prompts.parquet").column("prompt").to_pylist() == [
        "a fox, red",
        "a hare",
    ]


def test_init_takes_text_with_a_prompt_a_line(tmp_path: Path, workflow: Path) -> None:
    lines = prompts(tmp_path, "p.txt", '\ufeffa fox\n\n  a hare  \r\nan "owl"')

    result = nightkiln("init", tmp_path / "c", "--workflow", workflow, "--prompts", lines)

    assert result.exit_code == 0, result.output
    assert pq.read_table(tmp_path / "c" / "prompts.parquet").to_pylist() == [
        {"prompt": "a fox"},
        {"prompt": "a hare"},
        {"prompt": 'an "owl"'},
    ]


def test_init_takes_parquet_as_it_is(tmp_path: Path, workflow: Path) -> None:
    source = CATALOGS / "parti" / "prompts.parquet"

    result = nightkiln(
        "init", tmp_path / "c", "--workflow", workflow, "--prompts", source, "--json"
    )

    assert json.loads(result.output)["rows"] == 1632
    assert (tmp_path / "c" / "prompts.parquet").read_bytes() == source.read_bytes()


def test_init_never_overwrites(tmp_path: Path, workflow: Path) -> None:
    lines = prompts(tmp_path, "p.txt", "a fox")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "catalog.yaml").write_text("mine")

    told = refused("init", tmp_path / "c", "--workflow", workflow, "--prompts", lines)

    assert "catalog.yaml: is there already" in told
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["catalog.yaml"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("p.docx", "", "holds no prompts that I can read"),
        ("p.parquet", "prompt\n", "is not a Parquet file"),
        ("p.jsonl", "{", "cannot be read"),
    ],
)
def test_init_leaves_nothing_behind_when_it_fails(
    tmp_path: Path, workflow: Path, name: str, text: str, words: str
) -> None:
    source = prompts(tmp_path, name, text)

    told = refused("init", tmp_path / "c", "--workflow", workflow, "--prompts", source)

    assert words in told
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_init_says_how_to_export_a_workflow_in_the_editor_s_format(tmp_path: Path) -> None:
    ui = prompts(tmp_path, "w.json", '{"nodes": [], "links": []}')
    lines = prompts(tmp_path, "p.txt", "a fox")

    told = refused("init", tmp_path / "c", "--workflow", ui, "--prompts", lines)

    assert "Workflow > Export (API)" in told


def test_init_tells_what_is_wrong_with_the_rows(tmp_path: Path, workflow: Path) -> None:
    table = prompts(tmp_path, "p.csv", "prompt,steps\na fox,4\n,0\n")

    result = nightkiln("init", tmp_path / "c", "--workflow", workflow, "--prompts", table)

    assert result.exit_code == 2
    assert "is null: row 1" in result.output
    assert "mend" in result.output


FLUX: dict[str, Any] = {
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": 'a: "b" # {c}', "clip": ["11", 0]}},
    "11": {
        "class_type": "DualCLIPLoader",
        "inputs": {"clip_name1": "t5.safetensors", "clip_name2": "l.safetensors", "type": "flux"},
    },
    "26": {"class_type": "FluxGuidance", "inputs": {"guidance": 3.5, "conditioning": ["6", 0]}},
    "22": {"class_type": "BasicGuider", "inputs": {"model": ["12", 0], "conditioning": ["26", 0]}},
    "12": {
        "class_type": "UNETLoader",
        "inputs": {"unet_name": "flux.safetensors", "weight_dtype": "default"},
    },
    "25": {"class_type": "RandomNoise", "inputs": {"noise_seed": 7}},
    "16": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
    "17": {
        "class_type": "BasicScheduler",
        "inputs": {"model": ["12", 0], "scheduler": "simple", "steps": 20, "denoise": 1.0},
    },
    "27": {
        "class_type": "EmptySD3LatentImage",
        "inputs": {"width": 1024, "height": 1024, "batch_size": 1},
    },
    "13": {
        "class_type": "SamplerCustomAdvanced",
        "inputs": {
            "noise": ["25", 0],
            "guider": ["22", 0],
            "sampler": ["16", 0],
            "sigmas": ["17", 0],
            "latent_image": ["27", 0],
        },
    },
    "10": {"class_type": "VAELoader", "inputs": {"vae_name": "ae.safetensors"}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["13", 0], "vae": ["10", 0]}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "flux"}},
}


def test_init_reads_a_workflow_whose_sampler_has_a_guider(tmp_path: Path) -> None:
    graph = prompts(tmp_path, "w.json", json.dumps(FLUX))
    table = prompts(tmp_path, "p.csv", "caption,guidance,seed,id\na fox,4.0,7,1\n")

    result = nightkiln("init", tmp_path / "c", "--workflow", graph, "--prompts", table)

    assert result.exit_code == 0, result.output
    catalog = load_catalog(tmp_path / "c")
    assert {item.name: item.to for item in catalog.inputs} == {
        "caption": ("CLIPTextEncode.text",),
        "seed": ("RandomNoise.noise_seed",),
        "guidance": ("FluxGuidance.guidance",),
        "width": ("EmptySD3LatentImage.width",),
        "height": ("EmptySD3LatentImage.height",),
        "steps": ("BasicScheduler.steps",),
    }
    assert {model.path for model in catalog.environment.models} == {
        "text_encoders/t5.safetensors",
        "text_encoders/l.safetensors",
        "diffusion_models/flux.safetensors",
        "vae/ae.safetensors",
    }


def test_init_binds_a_column_of_pictures_to_what_loads_them(tmp_path: Path) -> None:
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "mine.png"}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}},
    }
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "fox.png").write_bytes(b"fox")
    table = prompts(tmp_path, "p.csv", "image\nfox.png\n")
    path = prompts(tmp_path, "w.json", json.dumps(graph))

    result = nightkiln("init", tmp_path / "c", "--workflow", path, "--prompts", table)

    assert result.exit_code == 0, result.output
    [image] = load_catalog(tmp_path / "c").inputs
    assert (image.to, image.is_file) == (("LoadImage.image",), True)
