"""What this computer itself is up to: how many results it can take in, and has room for.

Measured while it works. A result costs processor time, wherever it goes: download, checks, digest,
journal, rows. One event loop and Python's lock make that one core's worth at most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nightkiln.core.events import Capacity
from nightkiln.core.model import Settled

JOBS_MIN = 50  # until then the start of the run would be most of what is measured
CORES_USED_MAX = 0.8  # of one: the rest is for peaks, and for who else works here
BYTES_KEPT_FREE = 1_000_000_000  # for rows, journal and others


@dataclass(slots=True)
class Controller:
    """Counts what was taken in, and what that took."""

    cpu_s: Callable[[], float]  # processor seconds of this process
    free_bytes: Callable[[], int | None]  # where results are kept; None: unknown
    jobs: int = 0
    size: int = 0  # bytes of their outputs
    _began_cpu_s: float = 0.0

    def start(self) -> None:
        """What was spent before is not the jobs'."""
        self._began_cpu_s = self.cpu_s()

    def kept(self, settled: Settled) -> None:
        """One more result is in the store."""
        self.jobs += 1
        self.size += sum(output.facts.size for output in settled.outputs)

    def capacity(self) -> Capacity | None:
        """As measured so far; None: too little to say."""
        if self.jobs < JOBS_MIN:
            return None
        spent_s = max(self.cpu_s() - self._began_cpu_s, 1e-6)
        return Capacity(CORES_USED_MAX * self.jobs / spent_s, self._jobs_room())

    def _jobs_room(self) -> int | None:
        free = self.free_bytes()
        if free is None:
            return None
        return max(0, free - BYTES_KEPT_FREE) * self.jobs // max(1, self.size)
