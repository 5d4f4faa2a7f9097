"""How people and signals end a run."""

from __future__ import annotations

from collections.abc import Callable


class StopSwitch:
    """How signals and people end a run: first in order, then at once."""

    def __init__(self) -> None:
        self._stop: Callable[[str, bool], None] | None = None
        self._asked: tuple[str, bool] | None = None

    def ask(self, reason: str, *, is_now: bool = False) -> None:
        """Finish what runs, or with ``is_now`` hand it back. Safe before the run has begun."""
        self._asked = (reason, is_now)
        if self._stop is not None:
            self._stop(reason, is_now)

    @property
    def is_asked(self) -> bool:
        """Whether anybody has asked for an end."""
        return self._asked is not None

    def connect(self, stop: Callable[[str, bool], None]) -> None:
        """The run listens from now on."""
        self._stop = stop
        if self._asked is not None:
            stop(*self._asked)
