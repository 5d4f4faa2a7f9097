"""The same questions for the stand-in and for a real ComfyUI."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import pytest

from nightkiln.testing.comfyui.peer import Peer
from nightkiln.testing.comfyui.process import ServerProcess, running, stand_in_process

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "real-comfyui"
INSTALLED = ROOT / "build" / "comfyui" / "installed"
URL = "NIGHTKILN_REAL_COMFYUI_URL"
CHECKPOINT = "tiny.safetensors"
START_S_MAX = 120.0

KINDS = ["stand-in", pytest.param("real", marks=pytest.mark.real)]


@pytest.fixture(scope="session", params=KINDS)
def server_kind(request: pytest.FixtureRequest) -> str:
    chosen = str(request.param)
    if chosen == "real" and URL not in os.environ and not INSTALLED.exists():
        pytest.skip("there is no real ComfyUI here; scripts/real-comfyui installs one")
    return chosen


@pytest.fixture(scope="session")
def comfyui(server_kind: str) -> Iterator[Peer]:
    """A server that all tests share, so each test asks for pictures of its own."""
    given = os.environ.get(URL) if server_kind == "real" else None
    if given is not None:
        yield from peer(given, server_kind)
    else:
        with server(server_kind) as process:
            yield from peer(process.url, server_kind)


@pytest.fixture
def mortal(server_kind: str) -> Callable[[], AbstractContextManager[ServerProcess]]:
    """Starts a server of a test's own, that it may kill."""
    if server_kind == "real" and not INSTALLED.exists():
        pytest.skip("the real ComfyUI is somebody else's; it is not killed")
    return lambda: server(server_kind)


def peer(url: str, kind: str) -> Iterator[Peer]:
    asking = Peer(url, kind, CHECKPOINT)
    yield asking
    asking.close()


@contextmanager
def server(kind: str) -> Iterator[ServerProcess]:
    if kind == "stand-in":
        with stand_in_process() as process:
            yield process
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = ROOT / "build" / "comfyui" / f"server-{port}.log"
    command = [sys.executable, str(SCRIPT), "start", "--port", str(port)]
    with log.open("w") as lines, running(command, stdout=lines.fileno()) as started:
        url = f"http://127.0.0.1:{port}"
        until_ready(url, started)
        yield ServerProcess(url, started)


def until_ready(url: str, process: subprocess.Popen[str]) -> None:
    """ComfyUI opens its port when it has loaded all nodes."""
    deadline_s = time.monotonic() + START_S_MAX
    while time.monotonic() < deadline_s:
        assert process.poll() is None, "ComfyUI ended while it started"
        try:
            httpx.get(f"{url}/system_stats")
        except httpx.TransportError:
            time.sleep(0.2)  # another process gives no other sign
        else:
            return
    pytest.fail(f"ComfyUI did not answer within {START_S_MAX:g} s")
