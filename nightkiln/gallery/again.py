"""The command that renders one picture again, as it can be typed, or pasted, into a shell."""

from __future__ import annotations

import re
import shlex
from typing import Any

from nightkiln.core.plan import SeedRule
from nightkiln.gallery.tiles import Tile

COMMAND_BYTES_MAX = 100_000  # of one argument Linux takes 131072
_FILE = re.compile(r"[0-9a-f]{64}(\.[A-Za-z0-9]{1,8})?")  # how a job names an input file
_RULES = frozenset(rule.value for rule in SeedRule)


def render_again(tile: Tile, *, catalog: str, store: str, batch: str) -> str:
    """``nightkiln run`` with every input held at the value that the job had.

    So it makes the same job whatever the catalog's rows say by then. Where a value cannot be given
    on a command line (input files, texts with a NUL), ``nightkiln retry``, which needs the row.
    """
    told = _with_values(tile, catalog, store)
    if told is not None:
        return told
    where = f"job_id = '{tile.job_id}'"
    words = ["nightkiln", "retry", catalog, "--name", batch, "--store", store, "--force"]
    return " ".join(quoted(word) for word in [*words, "--where", where])


def _with_values(tile: Tile, catalog: str, store: str) -> str | None:
    words = ["nightkiln", "run", catalog, "--store", store, "--fresh", "--limit", "1"]
    for name, value in tile.params.items():
        spelled = _spelled(value)
        if spelled is None:
            return None
        words += ["--set", f"{name}={spelled}"]
    command = " ".join(quoted(word) for word in words)
    return command if len(command.encode("utf-8", "replace")) <= COMMAND_BYTES_MAX else None


def quoted(word: str) -> str:
    """One word of a command; what cannot be seen is spelled out, so that it does no harm pasted.

    A prompt can hold line feeds, escape sequences of terminals, marks that turn the line around.
    Where they are spelled out, quotes and backslashes are, too: a shell that does not know this
    form (``sh``, ``fish``) reads a wrong text then, but never the end of it. ``fish`` takes a
    backslash for one within plain quotes as well.
    """
    if word.isprintable() and "\\" not in word:
        return shlex.quote(word)
    return "$'" + "".join(_spelled_out(letter) for letter in word) + "'"


def _spelled_out(letter: str) -> str:
    if letter.isprintable() and letter not in "\\'":
        return letter
    return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", "replace"))


def _spelled(value: Any) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str) or "\0" in value or value in _RULES or _FILE.fullmatch(value):
        return None
    return value
