"""A blob is there whole or not at all, whoever dies, races or asks for odd names."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nightkiln.blobs import TEMPORARY_AGE_S_MAX, LocalBlobs
from nightkiln.core.errors import StoreUnusable
from nightkiln.disk import Disk, OsDisk
from nightkiln.ports.blobs import Entry
from nightkiln.testing.disk import NoFsyncDisk, SteppedDisk, VolatileDisk

STEPS_MAX = 100
WRITTEN = {  # what the writer below puts under each key, in turn
    "images/aa/1.png": [b"one", b"one again"],
    "results/shard": [b"rows"],
    "last": [b"end"],
}


class PowerCut(BaseException):
    """Stops a writer in this process where SIGKILL would."""


def test_a_staged_file_is_moved_into_place(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    blobs.staging.mkdir()
    staged = blobs.staging / "download"
    staged.write_bytes(b"pixels")
    inode = staged.stat().st_ino

    blobs.put("images/x.png", staged)

    assert blobs.path("images/x.png").stat().st_ino == inode
    assert not staged.exists()


def test_entries_tell_size_and_age_of_what_is_listed(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    blobs.put("images/a.png", b"pixels")
    blobs.put("images/b.png", b"px")
    blobs.put("other", b"")
    os.utime(blobs.path("images/b.png"), (7.0, 7.0))

    first, second = blobs.entries("images/")

    assert (first.key, first.size) == ("images/a.png", 6)
    assert second == Entry("images/b.png", 2, 7.0)


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system")
def test_a_file_of_another_file_system_is_copied(tmp_path: Path) -> None:
    elsewhere = Path("/dev/shm") / f"nightkiln-test-{os.getpid()}"
    elsewhere.write_bytes(b"pixels")
    try:
        LocalBlobs(tmp_path).put("images/x.png", elsewhere)
    finally:
        elsewhere.unlink(missing_ok=True)

    assert LocalBlobs(tmp_path).get("images/x.png") == b"pixels"


def test_no_temporary_file_is_left_or_listed(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)

    blobs.put("a", b"1")
    blobs.create("b", b"2")
    blobs.create("b", b"3")

    assert list(blobs.staging.iterdir()) == []
    assert list(blobs.list("")) == ["a", "b"]


def test_leftovers_are_swept_when_no_writer_can_need_them(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    blobs.staging.mkdir()
    for name, written_s in (("old", 0.0), ("new", TEMPORARY_AGE_S_MAX)):
        (blobs.staging / name).write_bytes(b"left")
        os.utime(blobs.staging / name, (written_s, written_s))

    swept = blobs.sweep(now_s=TEMPORARY_AGE_S_MAX + 1)

    assert swept == 1
    assert [path.name for path in blobs.staging.iterdir()] == ["new"]


def test_a_full_disk_is_reported_with_the_path_and_the_room_that_is_left(tmp_path: Path) -> None:
    def no_space(_step: int, name: str) -> None:
        if name.startswith("write"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    blobs = LocalBlobs(tmp_path, disk=SteppedDisk(OsDisk(), no_space))

    with pytest.raises(StoreUnusable, match=r"a/b: No space left on device; \d+ MB are free"):
        blobs.put("a/b", b"too much")


def test_a_root_that_is_a_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreUnusable, match="file"):
        LocalBlobs(tmp_path / "file").put("a", b"")


def _acknowledged_at(
    root: Path, step: int, make_disk: Callable[[VolatileDisk], Disk]
) -> dict[str, bytes] | None:
    """Write until the power goes before ``step``; what was acknowledged, None if all was."""
    volatile = VolatileDisk(OsDisk())

    def before(number: int, _name: str) -> None:
        if number == step:
            raise PowerCut

    blobs = LocalBlobs(root, disk=SteppedDisk(make_disk(volatile), before))
    acknowledged: dict[str, bytes] = {}
    try:
        blobs.put("images/aa/1.png", b"one")
        acknowledged["images/aa/1.png"] = b"one"
        blobs.create("results/shard", b"rows")
        acknowledged["results/shard"] = b"rows"
        blobs.put("images/aa/1.png", b"one again")
        acknowledged["images/aa/1.png"] = b"one again"
        blobs.put("last", b"end")
    except PowerCut:
        volatile.lose_power()
        return acknowledged
    return None


def _damage(root: Path, make_disk: Callable[[VolatileDisk], Disk]) -> list[str]:
    """Every way in which a power cut at some step spoils what was written."""
    found: list[str] = []
    for step in range(1, STEPS_MAX):
        acknowledged = _acknowledged_at(root / str(step), step, make_disk)
        if acknowledged is None:
            assert step > 20, "fewer effects than a durable write needs"
            return found
        blobs = LocalBlobs(root / str(step))
        left = {key: blobs.get(key) for key in blobs.list("")}
        found += [f"step {step}: {key} is torn" for key in left if left[key] not in WRITTEN[key]]
        found += [
            f"step {step}: {key} is not as acknowledged"
            for key, content in acknowledged.items()
            if left.get(key) not in WRITTEN[key][WRITTEN[key].index(content) :]
        ]
    raise AssertionError("the writer never came to its end")


def test_a_power_cut_at_any_step_leaves_whole_files_and_all_that_was_acknowledged(
    tmp_path: Path,
) -> None:
    assert _damage(tmp_path, lambda volatile: volatile) == []


def test_without_fsync_a_power_cut_is_found_out(tmp_path: Path) -> None:
    assert _damage(tmp_path, NoFsyncDisk)
