"""Files wait on the local disk for a slow store: bounded, in order, and never lost."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nightkiln.blobs import LocalBlobs
from nightkiln.blobs.spool import SpooledBlobs
from nightkiln.core.errors import StoreUnusable
from nightkiln.disk import OsDisk

CONTENT = b"pixels" * 100
WAIT_S = 20.0


class Dam(LocalBlobs):
    """A store into which no file gets until the gate is opened; then it may refuse them."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.gate = threading.Event()
        self.begun = threading.Semaphore(0)
        self.refuses = False

    def put(self, key: str, data: bytes | Path) -> None:
        if isinstance(data, Path):
            self.begun.release()
            assert self.gate.wait(WAIT_S)
            if self.refuses:
                raise StoreUnusable("503")
        super().put(key, data)


@pytest.fixture
def dam(tmp_path: Path) -> Iterator[Dam]:
    made = Dam(tmp_path / "store")
    yield made
    made.gate.set()


@pytest.fixture
def spool(dam: Dam, tmp_path: Path) -> Iterator[Callable[..., SpooledBlobs]]:
    made: list[SpooledBlobs] = []

    def make(bytes_max: int = 10_000, patience_s: float = WAIT_S) -> SpooledBlobs:
        made.append(
            SpooledBlobs(
                dam,
                tmp_path / "spool",
                disk=OsDisk(),
                bytes_max=bytes_max,
                patience_s=patience_s,
                again_s=0.01,
            )
        )
        return made[-1]

    yield make
    dam.gate.set()
    for each in made:
        each.close()


def picture(folder: Path, name: str = "x") -> Path:
    path = folder / f"download-{name}"
    path.write_bytes(CONTENT)
    return path


def test_a_file_that_waits_can_be_read_and_is_nowhere_else(
    spool: Callable[..., SpooledBlobs], dam: Dam, tmp_path: Path
) -> None:
    blobs, path = spool(), picture(tmp_path)

    blobs.put("images/x.png", path)

    assert (blobs.get("images/x.png"), blobs.size("images/x.png")) == (CONTENT, len(CONTENT))
    assert dam.size("images/x.png") is None
    assert not path.exists()


def test_a_shard_comes_after_every_file_that_was_put_before(
    spool: Callable[..., SpooledBlobs], dam: Dam, tmp_path: Path
) -> None:
    blobs = spool()
    for number in range(5):
        blobs.put(f"images/{number}.png", picture(tmp_path, str(number)))

    with ThreadPoolExecutor(1) as other:
        commit = other.submit(blobs.create, "results/shard", b"rows")
        assert dam.begun.acquire(timeout=WAIT_S)
        before = (commit.done(), dam.size("results/shard"))
        dam.gate.set()
        assert commit.result(WAIT_S)

    assert before == (False, None)
    assert [dam.get(f"images/{number}.png") for number in range(5)] == [CONTENT] * 5


def test_a_sign_of_life_waits_for_nothing(
    spool: Callable[..., SpooledBlobs], dam: Dam, tmp_path: Path
) -> None:
    blobs = spool()
    blobs.put("images/x.png", picture(tmp_path))

    assert blobs.create("claims/night/000001.json", b"mine")
    assert blobs.create("leases/dt=2026-01-31/lease.parquet", b"ended")
    blobs.put("claims/night/000001.heartbeat.json", b"alive")

    assert dam.get("claims/night/000001.heartbeat.json") == b"alive"


def test_a_full_spool_holds_up_whoever_brings_more(
    spool: Callable[..., SpooledBlobs], dam: Dam, tmp_path: Path
) -> None:
    blobs = spool(bytes_max=2 * len(CONTENT))
    for name in "ab":
        blobs.put(f"images/{name}.png", picture(tmp_path, name))

    with ThreadPoolExecutor(1) as other:
        third = other.submit(blobs.put, "images/c.png", picture(tmp_path, "c"))
        for _ in range(2):
            assert dam.begun.acquire(timeout=WAIT_S)
        was_held_up = not third.done()
        dam.gate.set()
        third.result(WAIT_S)
    blobs.flush()

    assert was_held_up
    assert sorted(dam.list("images/")) == [f"images/{name}.png" for name in "abc"]


def test_a_file_larger_than_the_spool_goes_through_alone(
    spool: Callable[..., SpooledBlobs], dam: Dam, tmp_path: Path
) -> None:
    dam.gate.set()
    blobs = spool(bytes_max=1)

    blobs.put("images/x.png", picture(tmp_path))
    blobs.flush()

    assert dam.get("images/x.png") == CONTENT


def test_without_a_spool_a_file_goes_straight_into_the_store(
    spool: Callable[..., SpooledBlobs], dam: Dam, tmp_path: Path
) -> None:
    dam.gate.set()

    spool(bytes_max=0).put("images/x.png", picture(tmp_path))

    assert dam.get("images/x.png") == CONTENT


def test_a_store_that_fails_for_a_while_is_waited_for(
    spool: Callable[..., SpooledBlobs], dam: Dam, tmp_path: Path
) -> None:
    dam.refuses = True
    dam.gate.set()
    blobs = spool()
    blobs.put("images/x.png", picture(tmp_path))
    for _ in range(3):
        assert dam.begun.acquire(timeout=WAIT_S)

    dam.refuses = False

    assert blobs.create("results/shard", b"rows")
    assert dam.get("images/x.png") == CONTENT


def test_a_store_that_fails_for_good_ends_the_run_and_the_next_one_brings_what_waits(
    spool: Callable[..., SpooledBlobs], dam: Dam, tmp_path: Path
) -> None:
    dam.refuses = True
    dam.gate.set()
    ill = spool(patience_s=0.0)
    ill.put("images/x.png", picture(tmp_path))
    with pytest.raises(StoreUnusable, match="503; what was made waits here"):
        ill.create("results/shard", b"rows")
    ill.close()
    dam.refuses = False

    well = spool()
    is_proven = well.get("images/x.png") == CONTENT
    well.flush()

    assert is_proven
    assert dam.get("images/x.png") == CONTENT
    assert dam.size("results/shard") is None


def test_what_a_living_process_has_waiting_is_left_to_it(
    spool: Callable[..., SpooledBlobs], tmp_path: Path
) -> None:
    first = spool()
    first.put("images/x.png", picture(tmp_path))

    assert spool().size("images/x.png") is None
    assert first.size("images/x.png") == len(CONTENT)


KILLED = """
import os, sys, threading
from pathlib import Path
from nightkiln.blobs import LocalBlobs
from nightkiln.blobs.spool import SpooledBlobs
from nightkiln.disk import OsDisk

class Never(LocalBlobs):
    def put(self, key, data):
        threading.Event().wait()

root = Path(sys.argv[1])
blobs = SpooledBlobs(Never(root / "store"), root / "spool", disk=OsDisk(), bytes_max=10_000)
blobs.put("images/x.png", root / "download-x")
os.kill(os.getpid(), 9)
"""


def test_what_a_killed_process_has_left_is_brought_by_the_next(
    spool: Callable[..., SpooledBlobs], dam: Dam, tmp_path: Path
) -> None:
    picture(tmp_path)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    dam.gate.set()

    spool().flush()
    left = os.listdir(tmp_path / "spool")
    spool()

    assert killed.returncode == -9
    assert dam.get("images/x.png") == CONTENT
    assert len(left) == 2, "the killed one's, which is empty, and the own one"
