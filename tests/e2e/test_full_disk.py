"""A disk that fills up in the middle of a night ends it in order: 3, and nothing made is lost."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nightkiln.core.errors import StoreUnusable
from nightkiln.observers import JsonLines
from nightkiln.settings import Settings
from nightkiln.store.store import Store
from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.comfyui.process import stand_in_process
from nightkiln.testing.samples import write_catalog
from nightkiln.wiring import Request, chosen_catalog, run_batch
from tests.asking import ask as asked


def ask(store: Path, sql: str) -> list[tuple[Any, ...]]:
    return asked(Store.open(str(store)), sql)


def run(catalog: Path, store: Path, url: str) -> subprocess.CompletedProcess[str]:
    options = ["--store", str(store), "--worker-url", url, "--name", "night"]
    return subprocess.run(
        [sys.executable, "-m", "nightkiln", "run", str(catalog), *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.long
def test_a_download_that_finds_no_room_stops_the_run_and_keeps_what_is_made(tmp_path: Path) -> None:
    catalog, store = write_catalog(tmp_path / "catalog", 12), tmp_path / "store"
    staging = Store.open(str(store), create=True).staging
    staging.mkdir(exist_ok=True)
    # The sixth download goes to a device that is always full.
    (staging / "night-1-0000005-0").symlink_to("/dev/full")
    with stand_in_process("--render-s", "0.05") as worker:
        stopped = run(catalog, store, worker.url)
        assert stopped.returncode == 3
        assert "No space left on device" in stopped.stderr
        assert f"free some space in {staging}" in stopped.stderr
        assert "Traceback" not in stopped.stderr
        assert ask(store, "select exit_code from batches") == [(3,)]
        committed = ask(store, "select uri from outputs")
        assert len(committed) >= 3
        assert all((store / uri).is_file() for (uri,) in committed)

        assert run(catalog, store, worker.url).returncode == 0

    assert ask(store, "select count(*), count(distinct job_id) from jobs") == [(12, 12)]
    assert sum(len(files) for _, _, files in os.walk(store / "images")) == 12


async def test_a_last_commit_that_fails_is_not_recorded_as_all_done(tmp_path: Path) -> None:
    catalog, store = write_catalog(tmp_path / "catalog", 3), tmp_path / "store"
    Store.open(str(store), create=True)
    async with StandIn() as server:
        full = Settings(store=str(store), worker_urls=(server.url,), disk="full=link:results")
        request = Request(chosen_catalog(catalog), name="night")
        with pytest.raises(StoreUnusable, match=r"No space left.*free some space"):
            await run_batch(request, full, JsonLines(io.StringIO()))
        assert ask(store, "select exit_code from batches") == [(3,)]

        room = Settings(store=str(store), worker_urls=(server.url,))
        outcome = await run_batch(request, room, JsonLines(io.StringIO()))

        assert (outcome.exit_code, outcome.done, outcome.adopted) == (0, 3, 3)
        assert len(server.renders) == 3
    assert ask(store, "select exit_code from batches") == [(0,)]
