"""Custom nodes: a repository at a ref, and what it requires."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

from provision.plan import Node, Plan, Stopped, Trouble

GIT_S_MAX, PIP_S_MAX = 600, 1800
TRIES_MAX = 3
# Nobody is there to type a password, and no address may run a command.
GIT_SAFE = {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "https:http:git:file"}


class Nodes:
    """Fetches custom nodes, one after another."""

    def __init__(self, folder: Path, comfy: Path, python: str, plan: Plan) -> None:
        self._folder, self._custom, self._python = folder, comfy / "custom_nodes", python
        self._plan = plan
        self._record = folder / "nodes.json"  # what is whole, requirements and all

    def place(self, node: Node, stop: threading.Event) -> None:
        """Have it in ``custom_nodes`` at its ref, with its requirements installed.

        Raises:
            Trouble: that cannot be had.
            Stopped: something else failed meanwhile.
        """
        final = self._custom / node.name
        if final.is_dir() and self._placed().get(node.name) == list(node):
            return
        part = self._folder / "nodes" / node.name
        self._fetch(node, part, stop)
        (self._folder / "restart-due").touch()
        if final.exists():
            shutil.rmtree(final)
        shutil.move(str(part), str(final))
        self._require(node, final / "requirements.txt")
        new = self._record.with_suffix(".new")
        new.write_text(json.dumps({**self._placed(), node.name: list(node)}), encoding="utf-8")
        new.replace(self._record)

    def _placed(self) -> dict[str, list[str]]:
        if not self._record.is_file():
            return {}
        placed: dict[str, list[str]] = json.loads(self._record.read_text(encoding="utf-8"))
        return placed

    def _fetch(self, node: Node, part: Path, stop: threading.Event) -> None:
        for tries in range(TRIES_MAX):
            if tries:
                stop.wait(self._plan.pause_s * 2**tries)
            if stop.is_set():
                raise Stopped
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            if _git(part, "init", "-q") and _checked_out(node, part):
                return
        raise Trouble("node", f"{node.repo} at {node.ref} cannot be fetched")

    def _require(self, node: Node, requirements: Path) -> None:
        if not requirements.is_file():
            return
        command = [self._python, "-m", "pip", "install", "--no-input", "-q", "-r"]
        if not _succeeds([*command, str(requirements)], within_s=PIP_S_MAX):
            raise Trouble("node", f"{node.repo} at {node.ref}: its requirements do not install")


def _checked_out(node: Node, part: Path) -> bool:
    """Only that commit where the server gives it by name; else all, and then look for it."""
    if _git(part, "fetch", "-q", "--depth", "1", "--", node.repo, node.ref):
        return _git(part, "checkout", "-q", "--detach", "FETCH_HEAD")
    everything = "+refs/heads/*:refs/remotes/origin/*"
    return _git(part, "fetch", "-q", "--tags", "--", node.repo, everything) and _git(
        part, "checkout", "-q", "--detach", node.ref
    )


def _git(folder: Path, *words: str) -> bool:
    return _succeeds(["git", "-C", str(folder), *words], within_s=GIT_S_MAX)


def _succeeds(command: list[str], *, within_s: float) -> bool:
    environment = {**os.environ, **GIT_SAFE}
    try:
        done = subprocess.run(
            command, check=False, timeout=within_s, stdin=subprocess.DEVNULL, env=environment
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
