"""The two programs that go to a rented machine: from the wheel, else from the checkout."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

ONSTART_CHARACTERS_MAX = 4096  # what Vast takes, together with the image's arguments


def start_script() -> str:
    """The shell script that a machine runs at every start; it arms the dead-man switch."""
    return _folder().joinpath("start.sh").read_text(encoding="utf-8")


def provision_program() -> bytes:
    """The Python program that fetches models and custom nodes, on the machine itself."""
    return _folder().joinpath("provision.py").read_bytes()


def _folder() -> Path:
    package = Path(str(files("nightkiln")))
    packaged = package / "data" / "workers" / "vast"
    return packaged if packaged.is_dir() else package.parent / "workers" / "vast"
