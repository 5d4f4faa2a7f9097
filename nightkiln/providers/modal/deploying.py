"""From a catalog's environment to the app that is deployed for it.

The app itself is ``workers/modal_app.py``; Modal's own command deploys it, in a process of its own,
with a plan of what to build in one environment variable. The token goes there in variables, too,
never in an argument.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from nightkiln.catalog.catalog import CATALOG_FILE, Environment
from nightkiln.core.errors import BadInput, Problem
from nightkiln.providers.modal.terms import ModalTerms

MODULE = "workers.modal_app"
VARIABLE = "NK_PLAN"
PLAN_CHARS_MAX = 64 * 1024
COMMIT_DIGITS, DIGEST_DIGITS = 12, 16
DEPLOY_S_MAX = 2 * 3600.0  # the first one builds an image
GIT_S_MAX = 10.0
STANDARD_ERROR = 2  # the process's own, whatever stands in for it here
VERSION = re.compile(r"[0-9][0-9A-Za-z.]{0,30}")
REPOSITORY = re.compile(r"https://[A-Za-z0-9._~/-]{1,300}")
REF = re.compile(r"[A-Za-z0-9._/][A-Za-z0-9._/-]{0,99}")
NODE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")  # folder of a custom node


@dataclass(frozen=True, slots=True)
class Deploy:
    """One deploy: what is built, and what it is called."""

    plan: Mapping[str, Any]
    tag: str

    @property
    def models(self) -> Sequence[Mapping[str, Any]]:
        """What the volume has to hold."""
        found: Sequence[Mapping[str, Any]] = self.plan["models"]
        return found


def deploy_of(environment: Environment, terms: ModalTerms, *, commit: str) -> Deploy:
    """What to build for a catalog.

    Raises:
        BadInput: its environment cannot be built, with every reason.
    """
    if problems := _problems(environment):
        raise BadInput(problems)
    tag = tag_of(commit, environment.digest)
    plan = {
        "digest": environment.digest,
        "commit": commit,
        "tag": tag,
        "comfyui": (environment.comfyui or "").lstrip("v"),
        "custom_nodes": [list(node) for node in environment.custom_nodes],
        "models": [
            {"path": model.path, "sha256": model.sha256, "url": model.url}
            for model in environment.models
        ],
        "gpus": list(terms.gpus),
        "cpu": terms.cpu,
        "memory_mib": terms.memory_mib,
        "timeout_s": terms.timeout_s,
        "startup_timeout_s": terms.startup_timeout_s,
        "scaledown_s": terms.scaledown_s,
        "max_containers": terms.max_containers,
        "snapshot": terms.snapshot,
        "volume": terms.volume,
    }
    if len(json.dumps(plan)) > PLAN_CHARS_MAX:
        what = "it is too long to be sent along with an app"
        raise BadInput([Problem(f"{CATALOG_FILE}: environment", what, "name fewer models")])
    return Deploy(plan, tag)


def tag_of(commit: str, digest: str) -> str:
    """What a deploy is tagged with: letters, digits, dots and dashes, fifty at most."""
    kept = commit[:COMMIT_DIGITS] + ("-dirty" if commit.endswith("-dirty") else "")
    return f"git-{kept or 'none'}-env-{digest[:DIGEST_DIGITS]}"


def _problems(environment: Environment) -> list[Problem]:
    where, found = f"{CATALOG_FILE}: environment", []
    if environment.comfyui is None or not VERSION.fullmatch(environment.comfyui.lstrip("v")):
        fix = 'name the version, such as comfyui: "0.3.75"'
        found.append(Problem(f"{where}.comfyui", f"{environment.comfyui!r} is no version", fix))
    folders = set[str]()
    for repo, ref in environment.custom_nodes:
        folder = repo.rstrip("/").rpartition("/")[2].removesuffix(".git")
        is_safe = REPOSITORY.fullmatch(repo) and REF.fullmatch(ref) and NODE.fullmatch(folder)
        if not is_safe or ".." in repo:
            fix = "give repo: https://... and ref: a commit or a tag"
            found.append(Problem(f"{where}.custom_nodes", f"{repo} at {ref} is no repository", fix))
        elif folder in folders:
            fix = "use one of them"
            found.append(Problem(f"{where}.custom_nodes", f"two have the folder {folder}", fix))
        folders.add(folder)
    for model in environment.models:
        if model.url is None or model.file is not None:
            fix = "put it where Modal can download it, and give its url"
            found.append(Problem(f"{where}.models {model.path}", "it has no address", fix))
    return found


def commit_of(folder: Path) -> str:
    """The git commit of a folder, ``-dirty`` if it has changed since; empty: there is none."""
    found = _git(folder, "rev-parse", "HEAD")
    if not found:
        return ""
    return f"{found}-dirty" if _git(folder, "status", "--porcelain", "--", ".") else found


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            check=False,
            capture_output=True,
            text=True,
            timeout=GIT_S_MAX,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def modal_command(
    words: Sequence[str],
    *,
    token: tuple[str, str],
    plan: Mapping[str, Any] | None = None,
    is_quiet: bool = False,
) -> subprocess.CompletedProcess[bytes]:
    """Run Modal's own command where the app lies; what it prints is people's to read.

    ``is_quiet``: it goes to the error output, since the other one is a program's.

    Raises:
        BadInput: it is not installed, or did not end in time.
    """
    told = dict(plan) if plan is not None else {}
    environment = {
        **os.environ,
        "MODAL_TOKEN_ID": token[0],
        "MODAL_TOKEN_SECRET": token[1],
        VARIABLE: json.dumps(told),
        "PYTHONPATH": os.pathsep.join(
            filter(None, (str(app_folder()), os.environ.get("PYTHONPATH")))
        ),
    }
    command = [sys.executable, "-m", "modal", *words]
    try:
        output = STANDARD_ERROR if is_quiet else None
        return subprocess.run(
            command, check=False, env=environment, timeout=DEPLOY_S_MAX, stdout=output
        )
    except subprocess.TimeoutExpired as error:
        what = f"modal {words[0]} did not end in {DEPLOY_S_MAX / 3600:.0f} hours"
        raise BadInput([Problem("modal", what, "see the app's page, and try again")]) from error


def app_folder() -> Path:
    """The folder that holds the package ``workers``: in the wheel, else in the checkout."""
    package = Path(str(files("nightkiln")))
    packaged = package / "data"
    return packaged if (packaged / "workers" / "modal_app.py").is_file() else package.parent
