"""One Prefect server for all flow tests and for the page about it, with a home of its own."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from nightkiln.testing.comfyui.process import real_process
from nightkiln.testing.waiting import until
from tests.docs.shown import SERVER, Shell, free_port

ROOT = Path(__file__).resolve().parents[2]
SERVER_S_MAX = 300.0  # where other tests have the processor


@pytest.fixture(scope="session", autouse=True)
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server that was started as docs/how-to/prefect.md says, on a free port.

    Prefect reads its settings when it is first imported, and again when it is told to: other tests
    of this process may have imported it. The server does not start with a newer FastAPI than the
    lock's.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    shell = Shell(tmp_path_factory.mktemp("prefect"), {}, PREFECT_SERVER_API_PORT=port)
    os.environ["PREFECT_HOME"] = str(shell.home / "flows")
    os.environ["PREFECT_API_URL"] = f"{url}/api"
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    os.environ["DO_NOT_TRACK"] = "1"
    if "prefect" in sys.modules:
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()
    with shell.started(SERVER):
        asyncio.run(until(lambda: is_up(url), within_s=SERVER_S_MAX))
        yield url
        # Prefect's client leaves connections to a server that is about to go: what is found here is
        # not found when nobody ignores it any more.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


def is_up(url: str) -> bool:
    """Whether a Prefect server answers."""
    try:
        return httpx.get(f"{url}/api/health", trust_env=False).is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="session")
def real_comfyui() -> Iterator[str]:
    """Address of a real ComfyUI on the CPU: the one given, else one of our own."""
    given = os.environ.get("NIGHTKILN_REAL_COMFYUI_URL")
    if given is not None:
        yield given
        return
    log = ROOT / "build" / "comfyui" / "server-flows.log"
    with real_process(ROOT / "scripts" / "real-comfyui", log=log) as process:
        yield process.url
