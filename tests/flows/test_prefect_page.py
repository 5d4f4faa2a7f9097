"""docs/how-to/prefect.md, command by command, on the server that all flow tests share."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx
import pytest

from nightkiln.store.store import Store
from nightkiln.testing.waiting import until
from tests.docs.shown import ELSEWHERE, PREFECT_PAGE, ROOT, Shell, commands, free_port

pytestmark = pytest.mark.prefect

# What stays running in a shell of its own, by its first words, and what it says when it is there.
STAYS = {
    ".venv/bin/python -m nightkiln.testing.comfyui": "listening on",
    ".venv/bin/prefect worker start": "started!",
}
RUN = ".venv/bin/prefect deployment run"
RUN_S_MAX = 90.0
# Of the run that the page starts: at 02:15 the deployed nightly begins by itself.
COUNT = "select status, count(*) from jobs where catalog = 'demo' group by 1"


@pytest.mark.nights
async def test_every_command_of_the_page_works_as_shown(
    tmp_path: Path, prefect_server: str
) -> None:
    ports = {"8188": free_port(), "8189": free_port(), "4200": prefect_server.rpartition(":")[2]}
    shell = Shell(tmp_path, ports, PREFECT_WORKER_QUERY_SECONDS="1")

    with ExitStack() as stack:
        for command in commands((ROOT / PREFECT_PAGE).read_text()):
            signs = [sign for begin, sign in STAYS.items() if command.startswith(begin)]
            if signs:
                log = stack.enter_context(shell.started(command))
                await until(partial(says, log, signs[0]))
            elif command not in ELSEWHERE[PREFECT_PAGE]:
                shell.run(command)
            if command.startswith(RUN):
                await until(lambda: has_ended(shell.home / "nightkiln-store"), within_s=RUN_S_MAX)

    with Store.open(str(shell.home / "nightkiln-store")).connect() as con:
        counts = con.execute(COUNT).fetchall()
    assert counts == [("done", 24)]


def says(log: Path, sign: str) -> bool:
    """Whether a command has said that it is there."""
    return sign in log.read_text()


def has_ended(store: Path) -> bool:
    """Whether a batch of the demo catalog has come to its end in a store."""
    return any(store.glob("batches/*/demo-*-end.parquet"))


def test_the_page_of_the_server_asks_the_server_that_it_came_from(prefect_server: str) -> None:
    """On a port of its own it does not, unless it is told the way that the page tells."""
    settings = httpx.get(f"{prefect_server}/ui-settings", trust_env=False).json()

    assert settings["api_url"] == f"{prefect_server}/api"
