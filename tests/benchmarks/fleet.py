"""Stand-in workers, each in a process of its own, and how busy they were kept."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nightkiln.testing.comfyui.process import stand_in_process

WORKERS = 2
IN_FLIGHT = 3  # per worker, of every contestant: what nightkiln hands out at once


@dataclass(slots=True)
class Fleet:
    """Workers that are up."""

    urls: list[str]
    spans: list[list[tuple[float, float]]] = field(default_factory=list)  # known at the end

    def busy_fraction(self) -> float:
        """The part of the time from its first to its last render in which a worker had one."""
        busy_s = sum(end - start for worker in self.spans for start, end in worker)
        there_s = sum(worker[-1][1] - worker[0][0] for worker in self.spans)
        return busy_s / there_s


@contextmanager
def fleet(*, render_s: float = 0.0, size_mb: float = 0.0) -> Iterator[Fleet]:
    """``WORKERS`` stand-ins; what they did is known when the block is left."""
    options = ["--render-s", str(render_s), "--size-mb", str(size_mb)]
    with tempfile.TemporaryDirectory() as folder:
        records = [Path(folder) / f"worker-{n}" for n in range(WORKERS)]
        with ExitStack() as stack:
            servers = [
                stack.enter_context(stand_in_process(*options, "--record", str(record)))
                for record in records
            ]
            there = Fleet([server.url for server in servers])
            yield there
        there.spans = [_spans(record) for record in records]


def _spans(record: Path) -> list[tuple[float, float]]:
    renders = (json.loads(line) for line in record.read_text().splitlines())
    return [(render["started_s"], render["finished_s"]) for render in renders]
