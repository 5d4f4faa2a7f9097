"""For how long a machine's GPU was billed, told from listings."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Meter:
    """Seconds in which a machine's GPU was billed. Times are epoch seconds.

    Nobody saw when between two listings it began to run, or stopped: it counts from the middle,
    which is right on average, and wrong by half a tick at most.
    """

    gpu_s: float = 0.0
    _seen_s: float | None = None
    _was_running: bool = False

    def see(self, now_s: float, *, is_running: bool, since_s: float) -> None:
        """A listing shows the machine, which exists since ``since_s``."""
        from_s = self._seen_s if self._seen_s is not None else since_s
        share = (is_running + self._was_running) / 2
        if self._seen_s is None and is_running:
            share = 1.0  # it ran before we came
        self.gpu_s += share * max(0.0, now_s - from_s)
        self._seen_s, self._was_running = now_s, is_running

    def until(self, ended_s: float) -> float | None:
        """All of it, for a machine that ended or is looked at then; None: it was never seen."""
        if self._seen_s is None:
            return None
        return self.gpu_s + (max(0.0, ended_s - self._seen_s) if self._was_running else 0.0)
