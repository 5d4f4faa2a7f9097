"""The same questions for the stand-in and for a real ComfyUI."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from nightkiln.testing.comfyui.peer import Peer
from nightkiln.testing.comfyui.process import ServerProcess, real_process, stand_in_process

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "real-comfyui"
INSTALLED = ROOT / "build" / "comfyui" / "installed"
URL = "NIGHTKILN_REAL_COMFYUI_URL"
CHECKPOINT = "tiny.safetensors"

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
    log = ROOT / "build" / "comfyui" / "server.log"
    with real_process(SCRIPT, log=log) as process:
        yield process
