"""What the machine has: ComfyUI's folder, its Python, a disk, and a way to start it again."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

from provision.plan import Trouble

COMFY_FOLDERS = (
    "/workspace/ComfyUI",
    "/opt/workspace-internal/ComfyUI",
    "/opt/ComfyUI",
    "/ComfyUI",
    "~/ComfyUI",
)
PYTHONS = (".venv/bin/python", "venv/bin/python", "/venv/main/bin/python")  # from its folder
COMFY_S_MAX = 120.0  # images put the folder in its place at their first start
RESTART_S_MAX = 120
POLL_S = 0.5
_ROW = re.compile(r"\s\d+\s+\d+\s+(\d+)\s+\d+%\s")  # size, used, available, capacity


def comfy_folder(folder: Path) -> Path:
    """ComfyUI's folder; ``folder`` is ours, beside which the start script may have named it.

    Raises:
        Trouble: it does not appear.
    """
    named = folder.parent / "comfy"
    told = os.environ.get("NK_COMFY", named.read_text().strip() if named.is_file() else "")
    candidates = (told,) if told else COMFY_FOLDERS
    deadline_s = time.monotonic() + COMFY_S_MAX
    while time.monotonic() < deadline_s:
        for candidate in candidates:
            path = Path(candidate).expanduser()
            if (path / "custom_nodes").is_dir():
                return path
        time.sleep(POLL_S)
    raise Trouble("comfy", "ComfyUI's folder is not on this image")


def comfy_python(comfy: Path) -> str:
    """The Python that ComfyUI runs in, into which its nodes' requirements go."""
    found = (comfy / candidate for candidate in PYTHONS)
    return next((str(path) for path in found if path.is_file()), sys.executable)


def free_bytes(folder: Path) -> int:
    """Room on the disk of ``folder``, asked of ``df`` as the controller does on arrival.

    Raises:
        Trouble: it cannot be told.
    """
    command = ["df", "-Pk", str(folder)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    row = _ROW.search(told.stdout)
    if row is None:
        raise Trouble("disk", "df does not tell how much room there is")
    return int(row[1]) * 1024


def restart(command: str) -> None:
    """Start ComfyUI again, so that it sees what is new.

    Raises:
        Trouble: the command failed.
    """
    try:
        subprocess.run(
            shlex.split(command), check=True, timeout=RESTART_S_MAX, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Trouble("comfy", "ComfyUI could not be started again") from error
