"""ComfyUI, or its stand-in, as a process of its own that a test can kill."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

START_S_MAX = 120.0
STOP_S_MAX = 10.0


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A server that runs until it is told otherwise."""

    url: str
    process: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        return self.process.pid

    def executed(self) -> int:
        """Prompts that a stand-in has begun to execute, of whomever; its history forgets some."""
        answer = httpx.get(f"{self.url}/stand-in", trust_env=False)
        return int(answer.raise_for_status().json()["executed"])

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
def real_process(script: Path, *, log: Path) -> Iterator[ServerProcess]:
    """A real ComfyUI on a free port, by ``script start --port P``; what it prints goes to ``log``.

    Raises:
        RuntimeError: it ended while it started, or did not answer in time.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, str(script), "start", "--port", str(port)]
    with log.open("w") as lines, running(command, stdout=lines.fileno()) as process:
        url = f"http://127.0.0.1:{port}"
        _until_ready(url, process)
        yield ServerProcess(url, process)


def _until_ready(url: str, process: subprocess.Popen[str]) -> None:
    """ComfyUI opens its port when it has loaded all nodes."""
    deadline_s = time.monotonic() + START_S_MAX
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            raise RuntimeError("ComfyUI ended while it started; its log says why")
        try:
            httpx.get(f"{url}/system_stats", trust_env=False)
        except httpx.TransportError:
            time.sleep(0.2)  # another process gives no other sign
        else:
            return
    raise RuntimeError(f"ComfyUI did not answer within {START_S_MAX:g} s")


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
