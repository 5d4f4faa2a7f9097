"""Custom nodes: the program as it is sent to a machine, against repositories on this disk."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nightkiln.machine.scripts import provision_program

GIT = ("git", "-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main")


@dataclass
class Repository:
    """Somebody's nodes."""

    folder: Path

    @property
    def url(self) -> str:
        return f"file://{self.folder}"

    def git(self, *words: str) -> str:
        done = subprocess.run(
            [*GIT, "-C", str(self.folder), *words], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def commits(self, text: str, *, requirements: str = "") -> str:
        """A commit whose only node says ``text``; its id."""
        (self.folder / "__init__.py").write_text(text)
        if requirements:
            (self.folder / "requirements.txt").write_text(requirements)
        self.git("add", ".")
        self.git("commit", "-q", "-m", text)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    folder = tmp_path / "their-nodes"
    folder.mkdir()
    made = Repository(folder)
    made.git("init", "-q")
    return made


@dataclass
class Box:
    """A machine with a ComfyUI whose pip only writes down what it is asked for."""

    folder: Path
    pip_fails: bool = False

    def __post_init__(self) -> None:
        self.ours.mkdir(parents=True)
        (self.ours / "provision.py").write_bytes(provision_program())
        self.custom.mkdir(parents=True)
        python = self.comfy / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        status = "1" if self.pip_fails else "0"
        python.write_text(f'#!/bin/sh\necho "$*" >>{self.folder}/pip.log\nexit {status}\n')
        python.chmod(0o755)

    @property
    def ours(self) -> Path:
        return self.folder / ".nightkiln" / "provision"

    @property
    def comfy(self) -> Path:
        return self.folder / "ComfyUI"

    @property
    def custom(self) -> Path:
        return self.comfy / "custom_nodes"

    @property
    def installs(self) -> int:
        log = self.folder / "pip.log"
        return len(log.read_text().splitlines()) if log.exists() else 0

    async def runs(self, *nodes: tuple[str, str]) -> dict[str, Any]:
        plan = {
            "custom_nodes": [{"repo": repo, "ref": ref} for repo, ref in nodes],
            "restart": "true",
            "pause_s": 0.01,
        }
        (self.ours / "plan.json").write_text(json.dumps(plan))
        variables = {"HOME": str(self.folder), "PATH": os.environ["PATH"]}
        process = await asyncio.create_subprocess_exec(
            "python3",
            "provision.py",
            cwd=self.ours,
            env=variables | {"NK_COMFY": str(self.comfy)},
            stderr=asyncio.subprocess.DEVNULL,  # what git says of what is not there
        )
        await process.wait()
        told: dict[str, Any] = json.loads((self.ours / "status.json").read_text())
        return told


@pytest.mark.parametrize("by", ["commit", "short commit", "tag", "branch"])
async def test_a_node_is_taken_at_its_ref_whatever_came_later(
    by: str, repository: Repository, tmp_path: Path
) -> None:
    box = Box(tmp_path / "box")
    wanted = repository.commits("wanted")
    repository.git("tag", "v1")
    repository.git("branch", "stable")
    repository.commits("newer")
    ref = {"commit": wanted, "short commit": wanted[:10], "tag": "v1", "branch": "stable"}[by]

    told = await box.runs((repository.url, ref))

    assert (told["state"], told["restarted"]) == ("done", True)
    assert (box.custom / "their-nodes" / "__init__.py").read_text() == "wanted"


async def test_what_a_node_requires_goes_into_comfyuis_own_python(
    repository: Repository, tmp_path: Path
) -> None:
    box = Box(tmp_path / "box")
    ref = repository.commits("nodes", requirements="einops\n")

    await box.runs((repository.url, ref))

    requirements = box.custom / "their-nodes" / "requirements.txt"
    assert (box.folder / "pip.log").read_text().split()[-2:] == ["-r", str(requirements)]


async def test_a_second_start_changes_nothing_and_another_ref_does(
    repository: Repository, tmp_path: Path
) -> None:
    box = Box(tmp_path / "box")
    old = repository.commits("old", requirements="einops\n")
    new = repository.commits("new")
    await box.runs((repository.url, old))

    again = await box.runs((repository.url, old))
    assert (again["state"], again["restarted"], box.installs) == ("done", False, 1)

    other = await box.runs((repository.url, new))
    assert (other["restarted"], box.installs) == (True, 2)
    assert (box.custom / "their-nodes" / "__init__.py").read_text() == "new"


async def test_a_folder_that_the_image_brought_is_replaced(
    repository: Repository, tmp_path: Path
) -> None:
    box = Box(tmp_path / "box")
    (box.custom / "their-nodes").mkdir()
    (box.custom / "their-nodes" / "stale.py").touch()
    ref = repository.commits("nodes")

    await box.runs((f"{repository.url}/", ref))

    assert not (box.custom / "their-nodes" / "stale.py").exists()


@pytest.mark.parametrize("missing", ["repository", "ref"])
async def test_a_node_that_is_not_there_is_told_in_the_same_words_everywhere(
    missing: str, repository: Repository, tmp_path: Path
) -> None:
    repository.commits("nodes")
    repo = repository.url if missing == "ref" else "file:///nowhere/gone"

    one, two = [await Box(tmp_path / name).runs((repo, "v9")) for name in ("one", "two")]

    assert (one["state"], one["kind"]) == ("failed", "node")
    assert one["why"] == two["why"] == f"{repo} at v9 cannot be fetched"


async def test_requirements_that_do_not_install_fail_it_and_are_tried_again_at_the_next_start(
    repository: Repository, tmp_path: Path
) -> None:
    box = Box(tmp_path / "box", pip_fails=True)
    ref = repository.commits("nodes", requirements="no-such-thing\n")

    told = await box.runs((repository.url, ref))

    assert told["why"] == f"{repository.url} at {ref}: its requirements do not install"
    await box.runs((repository.url, ref))
    assert box.installs == 2


@pytest.mark.parametrize("repo", ["ext::sh -c touch% /tmp/x", "--upload-pack=touch /tmp/x"])
async def test_an_address_cannot_run_a_command(repo: str, tmp_path: Path) -> None:
    box = Box(tmp_path / "box")

    told = await box.runs((repo, "main"))

    assert told["state"] == "failed"
