"""Nodes that misbehave on purpose, for the ComfyUI that ``scripts/real-comfyui`` installs.

The stand-in has two of the same names, so that the conformance suite can ask both for trouble.
"""

from __future__ import annotations

import os
import time
from typing import Any

import torch
from comfy.utils import ProgressBar

KILLED = 137  # exit status of a process that ended by SIGKILL
NO_SPACE = 28  # errno ENOSPC


class NightkilnSleep:
    """Takes its time, in steps at which it can be interrupted."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "nightkiln tests"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        """What it takes."""
        return {
            "required": {
                "image": ("IMAGE",),
                "seconds": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 600.0}),
                "steps": ("INT", {"default": 10, "min": 1, "max": 1000}),
                "tag": ("STRING", {"default": ""}),
            }
        }

    def run(self, image: Any, seconds: float, steps: int, tag: str) -> tuple[Any]:
        """Sleep; the progress bar raises when the prompt is interrupted."""
        del tag
        bar = ProgressBar(steps)
        for _ in range(steps):
            time.sleep(seconds / steps)
            bar.update(1)
        return (image,)


class NightkilnRaise:
    """Fails as told."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "nightkiln tests"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        """What it takes."""
        return {
            "required": {
                "image": ("IMAGE",),
                "kind": (["value", "oom", "oserror", "exit", "kill"],),
                "tag": ("STRING", {"default": ""}),
            }
        }

    def run(self, image: Any, kind: str, tag: str) -> tuple[Any]:
        """Raise, or end the thread or the process."""
        del image
        if kind == "kill":
            os._exit(KILLED)
        if kind == "exit":
            raise SystemExit(1)
        if kind == "oom":
            raise torch.OutOfMemoryError(f"out of memory on purpose {tag}")
        if kind == "oserror":
            raise OSError(NO_SPACE, "No space left on device")
        raise ValueError(f"on purpose {tag}")


NODE_CLASS_MAPPINGS = {
    "NightkilnSleep": NightkilnSleep,
    "NightkilnRaise": NightkilnRaise,
}
