"""``nightkiln up`` with a PostgreSQL database, whose password is told to the server alone."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from nightkiln.room.processes import found
from tests.docs.shown import free_port
from tests.room.postgres import postgres
from tests.room.test_up import Computer

pytestmark = [pytest.mark.prefect, pytest.mark.room, pytest.mark.long]

PASSWORD = "sesame%2Fopen"  # noqa: S105 - this database asks for none, and takes any


def test_the_password_of_the_database_is_known_to_the_server_alone(tmp_path: Path) -> None:
    computer = Computer(tmp_path, port=free_port())
    with postgres() as address:
        place = address.partition("@")[2]
        url = f"postgresql://postgres:{PASSWORD}@{place}"
        try:
            stands = computer.up(NIGHTKILN_DATABASE=url)[-1]
            assert (stands["is_up"], stands["database"]) == (True, f"postgresql://postgres@{place}")
            assert computer.automations()
            knows = {each.part for each in computer.processes if knows_password(each.process.pid)}
            assert knows == {"server"}
            for path in (
                *computer.book.folder.glob("*.json"),
                *computer.book.folder.glob("logs/*"),
            ):
                assert "sesame" not in path.read_text(), path
            assert not list(computer.book.home.glob("*.db"))

            assert computer.room.server is not None
            os.kill(computer.room.server.process.pid, signal.SIGKILL)
            asked = ("--port", computer.port, "--checkout", str(computer.checkout))
            refused = computer.call("up", *asked)
            assert refused.returncode == 2
            assert "password is not written down" in refused.stdout

            assert computer.up(NIGHTKILN_DATABASE=url)[-1]["is_up"]
        finally:
            done = computer.call("down", "--now")
        assert done.returncode == 0, done.stdout
        assert found(computer.room.mark) == []


def knows_password(pid: int) -> bool:
    """Whether a process was told; never by its command line, which everybody can read."""
    assert "sesame" not in Path(f"/proc/{pid}/cmdline").read_text()
    told = Path(f"/proc/{pid}/environ").read_text()
    return "sesame" in told
