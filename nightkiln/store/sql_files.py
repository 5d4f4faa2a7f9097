"""The named SQL files that come with the package."""

from __future__ import annotations

import re
from importlib import resources


def sql_file(name: str, **values: str) -> str:
    """The named file, its holes filled in one pass: what is filled in is not looked at again."""
    text = resources.files("nightkiln.sql").joinpath(f"{name}.sql").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda hole: values[hole[1]], text)
