"""Small catalogs to test with: a folder as a user would have it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from nightkiln.core.model import Graph


def text_to_image(*, checkpoint: str = "tiny.safetensors", size: int = 64) -> Graph:
    """A text-to-image graph of stock nodes, as ComfyUI exports it."""

    def node(kind: str, title: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": kind, "inputs": inputs, "_meta": {"title": title}}

    sampler = {"steps": 1, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal"}
    return {
        "1": node("CheckpointLoaderSimple", "Checkpoint", ckpt_name=checkpoint),
        "2": node("CLIPTextEncode", "Positive Prompt", text="", clip=["1", 1]),
        "3": node("CLIPTextEncode", "Negative Prompt", text="", clip=["1", 1]),
        "4": node("EmptyLatentImage", "Size", width=size, height=size, batch_size=1),
        "5": node(
            "KSampler",
            "KSampler",
            model=["1", 0],
            positive=["2", 0],
            negative=["3", 0],
            latent_image=["4", 0],
            seed=0,
            denoise=1.0,
            **sampler,
        ),
        "6": node("VAEDecode", "Decode", samples=["5", 0], vae=["1", 2]),
        "7": node("SaveImage", "Save", images=["6", 0], filename_prefix="sample"),
    }


INPUTS: Mapping[str, Any] = {
    "prompt": "Positive Prompt.text",
    "negative": {"to": "Negative Prompt.text", "default": ""},
    "seed": {"to": "KSampler.seed", "default": "derived"},
}


def write_catalog(
    folder: Path,
    rows: Sequence[Mapping[str, Any]] | int,
    *,
    graph: Graph | None = None,
    **keys: Any,
) -> Path:
    """Write a catalog of ``rows`` (or so many made-up prompts) to ``folder``; the folder.

    ``keys`` replace or add keys of catalog.yaml.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(rows, int):
        rows = [{"id": f"row-{n}", "prompt": f"sample prompt {n}"} for n in range(rows)]
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), folder / "prompts.parquet")
    workflow = graph if graph is not None else text_to_image()
    (folder / "workflow.json").write_text(json.dumps(workflow, indent=2))
    catalog = {
        "name": "sample",
        "prompts": "prompts.parquet",
        "workflow": "workflow.json",
        "inputs": dict(INPUTS),
        "environment": {"models": [{"path": "checkpoints/tiny.safetensors"}]},
        **keys,
    }
    (folder / "catalog.yaml").write_text(yaml.safe_dump(catalog, sort_keys=False))
    return folder
