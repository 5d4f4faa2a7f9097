"""The disk under a spool: it may fill up or lose power, and holds what memory does not have to."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightkiln.blobs import LocalBlobs
from nightkiln.blobs.spool import LEFT_FREE_BYTES, SpooledBlobs, fitting
from nightkiln.core.errors import StoreUnusable
from nightkiln.disk import Disk, OsDisk
from nightkiln.testing.disk import SteppedDisk, VolatileDisk

CONTENT = b"pixels" * 100
KEY = "images/night/x.png"
STEPS_MAX = 100
GB = 1_000_000_000


class PowerCut(BaseException):
    """Stops a writer in this process where SIGKILL would."""


class Shut(LocalBlobs):
    """A store that takes no files, until it is opened."""

    is_shut = True

    def put(self, key: str, data: bytes | Path) -> None:
        if self.is_shut and isinstance(data, Path):
            raise StoreUnusable("503")
        super().put(key, data)


@pytest.fixture
def shut(tmp_path: Path) -> Shut:
    return Shut(tmp_path / "store")


@pytest.fixture
def made() -> Iterator[list[SpooledBlobs]]:
    spools: list[SpooledBlobs] = []
    yield spools
    for each in spools:
        each.close()


def spooled(
    store: LocalBlobs, folder: Path, made: list[SpooledBlobs], disk: Disk | None = None
) -> SpooledBlobs:
    on = disk if disk is not None else OsDisk()
    made.append(SpooledBlobs(store, folder, disk=on, bytes_max=2 * len(CONTENT), again_s=0.01))
    return made[-1]


def picture(folder: Path) -> Path:
    path = folder / "download"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("verb", ["make_folder", "sync", "replace", "sync_folder"])
def test_a_full_disk_is_told_the_file_stays_where_it_was_and_the_same_call_goes_on(
    verb: str, shut: Shut, tmp_path: Path, made: list[SpooledBlobs]
) -> None:
    is_full = False

    def no_space(_step: int, name: str) -> None:
        if is_full and name.startswith(f"{verb} "):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    spool = tmp_path / "spool"
    blobs = spooled(shut, spool, made, SteppedDisk(OsDisk(), no_space))
    path = picture(tmp_path)

    is_full = True
    for _ in range(3):  # more than would fit, were the room of a failure not given back
        with pytest.raises(StoreUnusable, match=r"No space left.*free some space in"):
            blobs.put(KEY, path)
        if not path.exists():  # it had its name already, and only that may not be durable
            path = picture(tmp_path)
    is_full, shut.is_shut = False, False
    blobs.put(KEY, path)
    blobs.flush()

    assert shut.get(KEY) == CONTENT
    assert not path.exists()


def test_a_spool_that_cannot_be_made_is_told(shut: Shut, tmp_path: Path) -> None:
    def no_space(_step: int, name: str) -> None:
        if name.startswith("make_folder"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StoreUnusable, match=r"No space left.*free some space in"):
        spooled(shut, tmp_path / "spool", [], SteppedDisk(OsDisk(), no_space))


def _is_put_at(folder: Path, shut: Shut, step: int, made: list[SpooledBlobs]) -> bool | None:
    """Put a file until the power goes before ``step``; whether it was acknowledged.

    None: the power did not go.
    """
    volatile = VolatileDisk(OsDisk())

    def before(number: int, _name: str) -> None:
        if number == step:
            raise PowerCut

    is_put = False
    try:
        spooled(shut, folder / "state" / "spool", made, SteppedDisk(volatile, before)).put(
            KEY, picture(folder)
        )
        is_put = True
        made[-1].close()
        made[-1]._disk.sync(folder)  # one more step, so that the cut may come after the answer
    except PowerCut:
        while made:
            made.pop().close()
        volatile.lose_power()
        return is_put
    return None


def test_a_power_cut_at_any_step_takes_nothing_that_was_acknowledged(
    tmp_path: Path, made: list[SpooledBlobs]
) -> None:
    told = []
    for step in range(1, STEPS_MAX):
        folder = tmp_path / str(step)
        folder.mkdir()
        shut = Shut(folder / "store")
        is_put = _is_put_at(folder, shut, step, made)
        if is_put is None:
            break
        shut.is_shut = False
        after = spooled(shut, folder / "state" / "spool", made)
        after.flush()
        told.append(is_put)
        found = shut.get(KEY) if shut.size(KEY) is not None else None
        assert found in ({CONTENT} if is_put else {CONTENT, None}), f"before step {step}"

    assert len(told) > 5
    assert told[-1], "the last cut came after the answer"


def test_the_same_file_twice_comes_through_once_after_the_other(
    shut: Shut, tmp_path: Path, made: list[SpooledBlobs]
) -> None:
    shut.is_shut = False
    blobs = spooled(shut, tmp_path / "spool", made)

    for _ in range(20):
        blobs.put(KEY, picture(tmp_path))
    blobs.flush()

    assert shut.get(KEY) == CONTENT


def test_a_spool_leaves_room_on_the_disk_for_what_is_on_its_way() -> None:
    assert fitting(2 * GB, free=100 * GB) == 2 * GB
    assert fitting(2 * GB, free=LEFT_FREE_BYTES + GB) == GB
    assert fitting(2 * GB, free=GB // 2) == 0, "then each machine waits until its result is there"
    assert fitting(2 * GB, free=None) == 2 * GB


MANY = """
import resource, socket, sys
from pathlib import Path
from nightkiln.blobs.s3 import S3Blobs
from nightkiln.blobs.s3_place import S3Access, S3Place
from nightkiln.blobs.spool import SpooledBlobs
from nightkiln.disk import OsDisk

def put(number):
    path = root / f"download-{number}"
    with path.open("wb") as file:
        file.truncate(1_500_000)
    blobs.put(f"images/{number}.png", path)

root = Path(sys.argv[1])
silent = socket.create_server(("127.0.0.1", 0), backlog=64)  # takes connections, never reads
url = "http://127.0.0.1:%d" % silent.getsockname()[1]
access = S3Access(endpoint_url=url, access_key_id="key", secret_access_key="secret")
store = S3Blobs(S3Place("bucket", "x"), access)
blobs = SpooledBlobs(store, root / "spool", disk=OsDisk(), bytes_max=10**9)
peaks = []
for number in range(160):
    put(number)
    if number in (40, 159):
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(*peaks, len(list((root / "spool").rglob("*.png"))), flush=True)
import os; os._exit(0)
"""


def test_whatever_waits_for_a_store_that_is_silent_memory_is_bounded(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", MANY, str(tmp_path)], capture_output=True, text=True, check=True
    )

    before_kb, after_kb, waiting = map(int, said.stdout.split())
    assert waiting == 160, "240 MB wait on the disk"
    assert after_kb - before_kb < 60_000
