"""What ``rehearse`` and ``quote`` share on the command line."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

import typer

from nightkiln.testing.market import SHIPPED

QUIET_S = 2.0  # what takes longer says how far it is

T = TypeVar("T")

ByOption = Annotated[
    str,
    typer.Option(
        "--by",
        metavar="WHEN",
        help="Deadline: the next 07:00 in the time zone of the settings, a duration such as 2h or "
        "1h30m, or 2026-12-24T07:00.",
        show_default=False,
    ),
]
BudgetOption = Annotated[
    str, typer.Option("--budget", metavar="USD", help="Most that may be spent.", show_default=False)
]
MarketOption = Annotated[
    str,
    typer.Option(
        "--market",
        metavar="NAME|FILE",
        help=f"Market to play in: {', '.join(SHIPPED)}, or a market file.",
    ),
]


@dataclass(slots=True)
class Counter:
    """Says on stderr how far something is, if it takes long."""

    what: str
    total: int
    _started_s: float = field(default_factory=time.monotonic)
    _is_told: bool = False

    def over(self, things: Iterable[T]) -> Iterator[T]:
        """``things``, counted as they pass."""
        timer = threading.Timer(QUIET_S, self._tell, [0])
        timer.daemon = True
        timer.start()
        try:
            for count, thing in enumerate(things, 1):
                yield thing
                if sys.stderr.isatty() and time.monotonic() - self._started_s > QUIET_S:
                    self._tell(count)
        finally:
            timer.cancel()
            if self._is_told and sys.stderr.isatty():
                sys.stderr.write("\r\x1b[K")

    def _tell(self, count: int) -> None:
        self._is_told = True
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{self.what}: {count} of {self.total}")
        else:
            sys.stderr.write(f"{self.what}: {self.total} to play ...\n")
        sys.stderr.flush()
