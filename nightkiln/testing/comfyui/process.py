"""ComfyUI, or its stand-in, as a process of its own that a test can kill."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

STOP_S_MAX = 10.0


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A server that runs until it is told otherwise."""

    url: str
    process: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self) -> None:
        """As a power cut would: without a word to anybody."""
        self.process.kill()
        self.process.wait(STOP_S_MAX)


@contextmanager
def stand_in_process(*options: str) -> Iterator[ServerProcess]:
    """``python -m nightkiln.testing.comfyui`` with these options, on a port of its choice."""
    command = [sys.executable, "-m", "nightkiln.testing.comfyui", *options]
    with running(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None, "the output is a pipe"
        line = process.stdout.readline()
        if not line.startswith("listening on "):
            raise RuntimeError(f"the stand-in did not start: {line}")
        yield ServerProcess(line.removeprefix("listening on ").strip(), process)


@contextmanager
def running(command: Sequence[str], *, stdout: int | None) -> Iterator[subprocess.Popen[str]]:
    """A process that is gone at the end, however it takes it."""
    with subprocess.Popen(command, stdout=stdout, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
