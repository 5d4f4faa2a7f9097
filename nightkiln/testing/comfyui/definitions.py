"""The node classes that the stand-in knows, and how it tells about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nightkiln.nodes import stock_definitions

# Those of the tests and of the shipped catalogs.
CHECKPOINTS = (
    "tiny.safetensors",
    "sd_xl_base_1.0.safetensors",
    "v1-5-pruned-emaonly.safetensors",
    "v1-5-pruned-emaonly-fp16.safetensors",
)

SLEEP, RAISE = "NightkilnSleep", "NightkilnRaise"
RAISE_KINDS = ("value", "oom", "oserror", "exit", "kill")

_OWN: dict[str, Any] = {
    # The two that scripts/comfyui_test_nodes.py adds to a real server.
    SLEEP: {
        "input": {
            "required": {
                "image": ["IMAGE", {}],
                "seconds": ["FLOAT", {"default": 1.0, "min": 0.0, "max": 600.0}],
                "steps": ["INT", {"default": 10, "min": 1, "max": 1000}],
                "tag": ["STRING", {"default": ""}],
            },
            "optional": {},
        },
        "output": ["IMAGE"],
        "output_node": False,
    },
    RAISE: {
        "input": {
            "required": {
                "image": ["IMAGE", {}],
                "kind": [list(RAISE_KINDS), {}],
                "tag": ["STRING", {"default": ""}],
            },
            "optional": {},
        },
        "output": ["IMAGE"],
        "output_node": False,
    },
    # The custom node that most video workflows end with: its files come in a list of their own.
    "VHS_VideoCombine": {
        "input": {
            "required": {
                "images": ["IMAGE", {}],
                "frame_rate": ["FLOAT", {"default": 8, "min": 1}],
                "loop_count": ["INT", {"default": 0, "min": 0, "max": 100}],
                "filename_prefix": ["STRING", {"default": "AnimateDiff"}],
                "format": [["image/gif", "image/webp", "video/h264-mp4", "video/webm"], {}],
                "pingpong": ["BOOLEAN", {"default": False}],
                "save_output": ["BOOLEAN", {"default": True}],
            },
            "optional": {},
        },
        "output": ["VHS_FILENAMES"],
        "output_node": True,
    },
}

# Inputs that name an uploaded file are checked against the files, not against the list.
UPLOADED = {
    "LoadImage": ("image", "image"),
    "LoadImageMask": ("image", "image"),
    "LoadAudio": ("audio", "audio"),
    "LoadVideo": ("file", "video"),
}

_CHECKPOINT_LOADERS = (
    "CheckpointLoaderSimple",
    "CheckpointLoader",
    "unCLIPCheckpointLoader",
    "ImageOnlyCheckpointLoader",
)


def node_definitions(checkpoints: Iterable[str]) -> dict[str, Any]:
    """The stock classes, the checkpoints of this machine, and a few classes of our own."""
    definitions = stock_definitions() | _OWN
    for loader in _CHECKPOINT_LOADERS:
        definitions[loader]["input"]["required"]["ckpt_name"][0] = list(checkpoints)
    return definitions


def told(name: str, definition: Mapping[str, Any]) -> dict[str, Any]:
    """A definition as ``/object_info`` tells it."""
    output = list(definition["output"])
    return {
        "input": definition["input"],
        "input_order": {key: list(inputs) for key, inputs in definition["input"].items()},
        "output": output,
        "output_is_list": [False] * len(output),
        "output_name": output,
        "name": name,
        "display_name": name,
        "description": "",
        "python_module": "nodes",
        "category": "stand-in",
        "output_node": definition["output_node"],
    }
