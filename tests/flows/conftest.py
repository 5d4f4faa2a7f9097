"""One Prefect server for all flow tests, with a home of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

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
