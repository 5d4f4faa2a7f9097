"""A small app as a user would write one, deployed to the fake by its tests."""

from __future__ import annotations

import os
import time
from typing import Any

import modal

GLAZE = "celadon"  # what a later version may have changed

image = modal.Image.debian_slim(python_version="3.11").env({"HUE": "dark red"})
app = modal.App("kiln", image=image, tags={"purpose": "pots"})
clay = modal.Volume.from_name("clay", create_if_missing=True)


@app.cls(
    gpu=["L40S", "A100-40GB", "A10"],
    volumes={"/clay": clay.read_only()},
    secrets=[modal.Secret.from_dict({"RECIPE": "secret"})],
    cpu=2.0,
    memory=1024,
    timeout=600,  # ten seconds here: only what is meant to be ended by its clock is
    startup_timeout=1200,
    scaledown_window=240,  # four seconds here: nobody takes that from one call to the next
    max_containers=2,
    retries=0,
    enable_memory_snapshot=True,
)
class Kiln:
    @modal.enter()
    def light(self) -> None:
        self.fired = 0

    @modal.method()
    def fire(self, pot: dict[str, Any]) -> dict[str, Any]:
        print("firing", flush=True)
        time.sleep(pot.get("seconds", 0.0))
        if pot.get("is_cracked"):
            raise ValueError("the pot is cracked")
        if pot.get("is_last"):
            modal.experimental.stop_fetching_inputs()
        self.fired += 1
        return {
            "fired": self.fired,
            "glaze": GLAZE,
            "environment": dict(os.environ),
            "importable": _importable(pot.get("module", "")),
            "content": b"\0" * pot.get("bytes", 0),
            "bytes": len(pot.get("content", b"")),
        }


def _importable(module: str) -> bool:
    try:
        __import__(module or "json")
    except ImportError:
        return False
    return True
