"""The two programs that go to a rented machine: from the wheel, else from the checkout."""

from __future__ import annotations

import io
import zipapp
from importlib.resources import files
from pathlib import Path

ONSTART_CHARACTERS_MAX = 4096  # what Vast takes, together with the image's arguments


def start_script() -> str:
    """The shell script that a machine runs at every start; it arms the dead-man switch."""
    return _folder().joinpath("start.sh").read_text(encoding="utf-8")


def provision_program() -> bytes:
    """The program that fetches models and custom nodes, to be sent as ``provision.py``.

    A zip with its modules: Python runs it by any name, and there is one file to send.
    """
    program = io.BytesIO()
    zipapp.create_archive(
        _folder(), program, main="provision.main:main", filter=lambda path: path.suffix == ".py"
    )
    return program.getvalue()


def _folder() -> Path:
    package = Path(str(files("nightkiln")))
    packaged = package / "data" / "workers" / "vast"
    return packaged if packaged.is_dir() else package.parent / "workers" / "vast"
