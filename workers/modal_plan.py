"""What a Modal app is built from, as ``nightkiln modal deploy`` says it; see workers/README.md."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import PurePosixPath
from typing import Any, NamedTuple

CONTRACT = 2  # of requests and replies; goes up when an old caller or worker would misread them
VARIABLE = "NK_PLAN"  # the plan, as JSON, where the app is deployed and where it runs
MARK_DIGITS = 24  # of the environment's digest, in the name of a function
VERSION = re.compile(r"[0-9][0-9A-Za-z.]{0,30}")
REPOSITORY = re.compile(r"https://[A-Za-z0-9._~/-]{1,300}")
SHA256 = re.compile(r"[0-9a-f]{64}")
REF = re.compile(r"[A-Za-z0-9._/][A-Za-z0-9._/-]{0,99}")
NODE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


class Model(NamedTuple):
    """A file below ComfyUI's models folder, and where in the volume it lies."""

    path: str
    sha256: str | None
    url: str

    @property
    def place(self) -> str:
        """Below the volume's root: by content, so that no file of it is ever replaced."""
        return place_of(self.path, self.sha256, self.url)


class Plan(NamedTuple):
    """Everything that can be set."""

    digest: str = "0" * 64  # of the catalog's environment
    commit: str = ""
    tag: str = ""
    comfyui: str = "0.3.75"
    custom_nodes: tuple[tuple[str, str], ...] = ()  # repository, ref
    models: tuple[Model, ...] = ()
    gpus: tuple[str, ...] = ("L40S",)  # in order of preference
    cpu: float = 2.0  # cores
    memory_mib: int = 16384
    timeout_s: int = 600  # one call
    startup_timeout_s: int = 300
    scaledown_s: int = 15
    max_containers: int = 4
    snapshot: bool = False
    volume: str = "nightkiln-models"

    @property
    def mark(self) -> str:
        """Name of a function of the app: whoever looks for it knows what the app is for."""
        return mark_of(self.digest)


def mark_of(digest: str) -> str:
    """What says, in an app's list of functions, which contract and environment it is for."""
    return f"contract-{CONTRACT}-environment-{digest[:MARK_DIGITS]}"


def place_of(path: str, sha256: str | None, url: str) -> str:
    """Where a model lies in the volume; one without a checksum is known by its address.

    Raises:
        ValueError: its checksum is none.
    """
    if sha256 is not None and not SHA256.fullmatch(sha256):
        raise ValueError(f"{path}: {sha256!r} is no sha256")
    key = sha256 if sha256 is not None else "url-" + hashlib.sha256(url.encode()).hexdigest()
    return f"{key}/{PurePosixPath(path).name}"


def node_of(repo: str) -> str:
    """The folder of a custom node, as git names it; empty: it has no name for one."""
    name = repo.rstrip("/").rpartition("/")[2].removesuffix(".git")
    return name if NODE.fullmatch(name) else ""


def read_plan(text: str) -> Plan:
    """The plan in JSON.

    Raises:
        ValueError: it would run or write something that no plan says.
    """
    told: dict[str, Any] = json.loads(text)
    unknown = told.keys() - set(Plan._fields)
    if unknown:
        raise ValueError(f"nobody knows what {min(unknown)!r} means: other versions")
    told["models"] = tuple(Model(**model) for model in told.get("models", ()))
    told["custom_nodes"] = tuple((repo, ref) for repo, ref in told.get("custom_nodes", ()))
    told["gpus"] = tuple(told.get("gpus", Plan().gpus))
    plan = Plan(**told)
    _check(plan)
    return plan


def _check(plan: Plan) -> None:
    if not VERSION.fullmatch(plan.comfyui):
        raise ValueError(f"{plan.comfyui!r} is no version of ComfyUI")
    for repo, ref in plan.custom_nodes:
        if not REPOSITORY.fullmatch(repo) or not REF.fullmatch(ref) or ".." in repo:
            raise ValueError(f"{repo!r} at {ref!r} names no repository")
    nodes = [node_of(repo) for repo, _ in plan.custom_nodes]
    if "" in nodes or len(set(nodes)) < len(nodes):
        raise ValueError(f"custom nodes need a folder each: {nodes}")
    for model in plan.models:
        parts = PurePosixPath(model.path).parts
        if len(parts) < 2 or ".." in parts or parts[0] == "/":  # noqa: PLR2004 - folder and file
            raise ValueError(f"{model.path!r} is not a file in a folder below ComfyUI's models")
