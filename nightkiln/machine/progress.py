"""What a machine says of its own provisioning, read as a stranger's words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nightkiln.machine.talk import plain

KINDS = frozenset({"disk", "download", "checksum", "node", "comfy"})
STATES = frozenset({"working", "needs_urls", "done", "failed"})
BYTES_MAX = 2**50


@dataclass(frozen=True, slots=True)
class Progress:
    """One look at ``status.json``."""

    state: str  # one of STATES
    kind: str = ""  # of a failure: one of KINDS
    why: str = ""
    waiting_for: frozenset[str] = frozenset()  # paths whose addresses have expired
    bytes_done: int = 0
    bytes_total: int = 0  # as far as known
    is_loading: bool = False  # some file is on its way right now
    mbps: float | None = None


def progress(text: str) -> Progress | None:
    """None: it makes no sense, as when nothing has been written yet."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return None
    state = told.get("state") if isinstance(told, dict) else None
    if not isinstance(state, str) or state not in STATES:
        return None
    listed = told.get("files")
    files = [file for file in _mapping(listed).values() if isinstance(file, dict)]
    waiting, mbps = told.get("waiting_for"), told.get("mbps")
    kind = told.get("kind")
    return Progress(
        state=state,
        kind=kind if isinstance(kind, str) and kind in KINDS else "",
        why=plain(str(told.get("why") or "")),
        waiting_for=frozenset(path for path in _list(waiting) if isinstance(path, str)),
        bytes_done=sum(_bytes(file.get("done")) for file in files),
        bytes_total=sum(_bytes(file.get("total")) for file in files),
        is_loading=any(file.get("state") == "loading" for file in files),
        mbps=float(mbps) if isinstance(mbps, int | float) and 0 <= mbps < BYTES_MAX else None,
    )


def _bytes(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < BYTES_MAX else 0


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
