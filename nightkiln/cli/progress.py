"""How far something is that takes long."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import typer

QUIET_S = 2.0  # nobody waits for shorter than that
TOLD_EVERY_S = 2.0


@dataclass(slots=True)
class Counter:
    """Says how far something is, if it takes long: on stderr, or as JSON for a program."""

    as_json: bool
    clock: Callable[[], float] = time.monotonic
    _next_s: float | None = None
    _is_open: bool = field(default=False)  # a line on a screen, to be written over

    def tell(self, what: str, so_far: int, total: int) -> None:
        """Called often; says something now and then."""
        now_s = self.clock()
        if self._next_s is None:
            self._next_s = now_s + QUIET_S
        if now_s < self._next_s:
            return
        self._next_s = now_s + TOLD_EVERY_S
        if self.as_json:
            facts = {"what": what, "so_far": so_far, "total": total or None}
            typer.echo(json.dumps({"event": "progress", **facts}))
            return
        shown = megabytes if "bytes" in what or what == "rows" else str
        of = f" of {shown(total)}" if total else ""
        is_screen = sys.stderr.isatty()
        sys.stderr.write(
            f"\r\x1b[K{what}: {shown(so_far)}{of}"
            if is_screen
            else f"{what}: {shown(so_far)}{of}\n"
        )
        sys.stderr.flush()
        self._is_open = is_screen

    def end(self) -> None:
        """Nothing more is counted."""
        if self._is_open:
            sys.stderr.write("\r\x1b[K")
            self._is_open = False


def megabytes(size: int) -> str:
    """A size as people read it."""
    return f"{size / 1e6:.1f} MB"
