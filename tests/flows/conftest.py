"""One Prefect server for all flow tests, with a home of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightkiln.testing.comfyui.process import real_process

ROOT = Path(__file__).resolve().parents[2]
SERVER_S_MAX = 120


@pytest.fixture(scope="session", autouse=True)
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Start before Prefect is imported by a test: it reads its home once."""
    os.environ["PREFECT_HOME"] = str(tmp_path_factory.mktemp("prefect"))
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    os.environ["DO_NOT_TRACK"] = "1"
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=SERVER_S_MAX):
        yield


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
