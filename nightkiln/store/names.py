"""What a batch may be called."""

from __future__ import annotations

import re

from nightkiln.core.errors import BadInput, Problem

BATCH_NAME_CHARS_MAX = 100

_BATCH_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def check_batch_name(name: str) -> str:
    """``name``, if a batch may be called that: it becomes part of file names.

    Raises:
        BadInput: it may not.
    """
    if len(name) <= BATCH_NAME_CHARS_MAX and _BATCH_NAME.fullmatch(name):
        return name
    what = f"{name[:BATCH_NAME_CHARS_MAX]!r} cannot name a batch"
    fix = f"use up to {BATCH_NAME_CHARS_MAX} letters, digits, '-', '_' and '.'"
    raise BadInput([Problem("--name", what, fix)])
