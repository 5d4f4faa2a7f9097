"""Runs one contestant in a process of its own, so that none pays for another's memory or imports.

``in_child("tests.benchmarks.bare", "render", ...)`` calls that function there; arguments and result
travel as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

CHILD_S_MAX = 600.0


@dataclass(slots=True)
class Spent:
    """What a block of code has cost; filled in when it ends."""

    wall_s: float = 0.0
    cpu_s: float = 0.0  # of all threads of this process


@contextmanager
def measured() -> Iterator[Spent]:
    """Measure what the block takes."""
    spent = Spent()
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    yield spent
    spent.wall_s = time.perf_counter() - wall_s
    spent.cpu_s = time.process_time() - cpu_s


def peak_mb() -> float:
    """The most memory that this process has held at once."""
    # Not ``ru_maxrss``: a child inherits that of its parent, and would show it if it is larger.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024 / 1e6


def in_child(module: str, function: str, **arguments: Any) -> Any:
    """What ``function`` of ``module`` returns in a fresh process."""
    command = [sys.executable, "-m", __name__, module, function, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=CHILD_S_MAX, check=False)
    if done.returncode:
        raise RuntimeError(f"{module} {function} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """The child's side."""
    module, function, arguments = sys.argv[1:]
    print(json.dumps(getattr(import_module(module), function)(**json.loads(arguments))))


if __name__ == "__main__":
    main()
