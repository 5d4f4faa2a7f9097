"""What the controller asks for, as it lies beside the program."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import NamedTuple

PARALLEL_MAX = 16
TRIES = 8
PAUSE_S = 1.0
WAIT_URLS_S = 900.0
RESTART = "supervisorctl restart comfyui"


class Trouble(Exception):
    """What ends it; ``why`` says the same on every machine that meets the same cause."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind, self.why = kind, why  # kind: disk, download, checksum, node or comfy


class Stopped(Exception):
    """Something else has failed already."""


class Model(NamedTuple):
    """A file below ComfyUI's models folder."""

    path: str
    sha256: str | None
    bytes: int | None


class Node(NamedTuple):
    """A repository, and what to check out of it: a commit, a tag or a branch."""

    repo: str
    ref: str

    @property
    def name(self) -> str:
        """Its folder below ``custom_nodes``."""
        return self.repo.rstrip("/").rpartition("/")[2].removesuffix(".git")


class Plan(NamedTuple):
    """What shall be there at the end, and how much patience there is."""

    models: list[Model]
    nodes: list[Node]
    parallel: int
    restart: str
    tries: int  # without progress, per file
    pause_s: float  # after the first; each further one is twice as long
    wait_urls_s: float


def read_plan(path: Path) -> Plan:
    """Read plan.json.

    Raises:
        ValueError: it would write outside of ComfyUI's folders.
    """
    told = json.loads(path.read_text(encoding="utf-8"))
    models = [Model(m["path"], m.get("sha256"), m.get("bytes")) for m in told.get("models", ())]
    nodes = [Node(node["repo"], node["ref"]) for node in told.get("custom_nodes", ())]
    for model in models:
        parts = PurePosixPath(model.path).parts
        if len(parts) < 2 or ".." in parts or parts[0] == "/":  # noqa: PLR2004 - folder and file
            raise ValueError(f"{model.path!r} is not a file in a folder below ComfyUI's models")
    for node in nodes:
        if not node.name or node.name.startswith(".") or node.ref.startswith("-"):
            raise ValueError(f"{node.repo!r} at {node.ref!r} names no repository")
    return Plan(
        models=models,
        nodes=nodes,
        parallel=min(max(1, int(told.get("parallel", 4))), PARALLEL_MAX),
        restart=told.get("restart", RESTART),
        tries=int(told.get("tries", TRIES)),
        pause_s=float(told.get("pause_s", PAUSE_S)),
        wait_urls_s=float(told.get("wait_urls_s", WAIT_URLS_S)),
    )


def read_urls(path: Path) -> dict[str, list[str]]:
    """The addresses known now; none while the file is being sent."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: list(addresses) for name, addresses in told.items()}
