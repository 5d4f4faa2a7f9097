"""The named SQL files that come with the package, and what may be filled into them."""

from __future__ import annotations

import re
from importlib import resources


def sql_file(name: str, **values: str) -> str:
    """The named file, its holes filled in one pass: what is filled in is not looked at again."""
    text = resources.files("nightkiln.sql").joinpath(f"{name}.sql").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda hole: values[hole[1]], text)


def literal(value: str) -> str:
    """A SQL string."""
    return "'" + value.replace("'", "''") + "'"


def glob_root(root: str) -> str:
    """A folder as the beginning of a glob inside a SQL string; "" is the current one."""
    if not root:
        return ""
    escaped = re.sub(r"([*?\[])", r"[\1]", root.rstrip("/")) + "/"
    return escaped.replace("'", "''")
