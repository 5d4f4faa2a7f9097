"""What a killed run leaves in the system's folder for temporary files goes with the next run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nightkiln.core.errors import StoreUnusable
from nightkiln.temporary import temporary_folder

HOLDING = """
import sys
from nightkiln.catalog import scratch
with scratch():
    print("made", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_run(place: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has a scratch database in ``place``."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING],
        env={**os.environ, "TMPDIR": str(place)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "made\n"
            yield process
        finally:
            process.kill()


def killed(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_what_a_killed_run_left_goes_with_the_next_run(tmp_path: Path) -> None:
    with another_run(tmp_path) as run:
        [left] = os.listdir(tmp_path)
        killed(run)
    assert os.listdir(tmp_path) == [left]

    with another_run(tmp_path):
        assert len(os.listdir(tmp_path)) == 1
        assert left not in os.listdir(tmp_path)


def test_what_a_living_run_uses_stays(tmp_path: Path) -> None:
    with another_run(tmp_path):
        [used] = os.listdir(tmp_path)
        with temporary_folder(tmp_path) as mine:
            assert sorted(os.listdir(tmp_path)) == sorted([used, mine.name])
        assert (tmp_path / used / "scratch.duckdb").exists()


def test_a_folder_that_only_looks_alike_stays(tmp_path: Path) -> None:
    store, link = tmp_path / "nightkiln-results1", tmp_path / "nightkiln-results2"
    store.mkdir()
    (store / "image.png").write_bytes(b"somebody's")
    link.symlink_to(store)

    with temporary_folder(tmp_path):
        pass

    assert sorted(os.listdir(tmp_path)) == [store.name, link.name]
    assert (store / "image.png").exists()


def test_nothing_is_left_when_the_context_ends(tmp_path: Path) -> None:
    with temporary_folder(tmp_path) as folder:
        (folder / "file").write_text("content")

    assert os.listdir(tmp_path) == []


def test_where_no_folder_can_be_made_the_place_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="nowhere"), temporary_folder(tmp_path / "nowhere"):
        pass
