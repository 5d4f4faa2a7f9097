"""Small graphs to ask a server for. By default nobody has asked for the same before."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from nightkiln.testing.comfyui.definitions import RAISE, SLEEP


def image(color: int | None = None, *, batch: int = 1, side: int = 16) -> dict[str, Any]:
    """A plain image, or several of them."""
    chosen = color if color is not None else uuid4().int % 0xFFFFFF
    size = {"width": side, "height": side, "batch_size": batch}
    return {"class_type": "EmptyImage", "inputs": {**size, "color": chosen}}


def save(source: str = "1", prefix: str | None = None) -> dict[str, Any]:
    """Saves the images of the node ``source``."""
    chosen = prefix if prefix is not None else f"conformance/{uuid4().hex}"
    return {"class_type": "SaveImage", "inputs": {"images": [source, 0], "filename_prefix": chosen}}


def sleep(seconds: float, *, steps: int = 2, source: str = "1") -> dict[str, Any]:
    """Takes its time; a node of the test peers."""
    inputs = {"image": [source, 0], "seconds": seconds, "steps": steps, "tag": uuid4().hex}
    return {"class_type": SLEEP, "inputs": inputs}


def fail(kind: str, *, source: str = "1") -> dict[str, Any]:
    """Fails as told, one of ``definitions.RAISE_KINDS``; a node of the test peers."""
    return {"class_type": RAISE, "inputs": {"image": [source, 0], "kind": kind, "tag": "t"}}


def long() -> dict[str, Any]:
    """A whole graph that runs until it is interrupted, step by step."""
    return {"1": image(), "2": sleep(60, steps=1000), "3": save("2")}


def text_to_image(
    checkpoint: str, *, text: str = "a kiln", seed: int = 1, side: int = 64, batch: int = 1
) -> dict[str, Any]:
    """A whole graph of one step, with a model."""
    sampling = {"steps": 1, "cfg": 4.0, "sampler_name": "euler", "scheduler": "simple"}
    links = {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0]}
    size = {"width": side, "height": side, "batch_size": batch}
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": text, "clip": ["1", 1]}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["1", 1]}},
        "4": {"class_type": "EmptyLatentImage", "inputs": size},
        "5": {
            "class_type": "KSampler",
            "inputs": {**sampling, **links, "latent_image": ["4", 0], "seed": seed, "denoise": 1.0},
        },
        "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
        "7": save("6"),
    }
