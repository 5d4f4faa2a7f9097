"""One control room for all tests of a process; a test leaves it with a server and a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.room.room import Room


@pytest.fixture(scope="session")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """It takes half a minute to open."""
    room = Room(tmp_path_factory.mktemp("room"))
    try:
        asyncio.run(room.open())
        yield room
    finally:
        room.close()


@pytest.fixture
def room(opened: Room, tmp_path: Path) -> Iterator[Room]:
    """The room, whole again after a test that broke it, and without that test's runs."""
    del tmp_path
    yield opened
    opened.kill_flows()
    asyncio.run(opened.mended())
