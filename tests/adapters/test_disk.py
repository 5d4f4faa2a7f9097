"""A test disk loses exactly what was not synced, and the real one does what it says."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nightkiln.disk import OsDisk
from nightkiln.testing.disk import VolatileDisk, disk_from_spec
from nightkiln.testing.mutants import SYNCS, NoFsyncDisk


def test_a_synced_file_with_a_synced_name_outlives_a_power_cut(tmp_path: Path) -> None:
    disk = VolatileDisk(OsDisk())
    disk.write(tmp_path / "kept", b"all of it")
    disk.sync(tmp_path / "kept")
    disk.sync_folder(tmp_path)

    disk.lose_power()

    assert (tmp_path / "kept").read_bytes() == b"all of it"


def test_content_that_was_not_synced_is_cut_off(tmp_path: Path) -> None:
    disk = VolatileDisk(OsDisk())
    disk.write(tmp_path / "torn", b"gone")
    disk.sync_folder(tmp_path)

    disk.lose_power()

    assert (tmp_path / "torn").read_bytes() == b""


def test_a_name_that_was_not_synced_is_gone(tmp_path: Path) -> None:
    disk = VolatileDisk(OsDisk())
    disk.write(tmp_path / "lost", b"synced content without a synced name")
    disk.sync(tmp_path / "lost")

    disk.lose_power()

    assert not (tmp_path / "lost").exists()


def test_a_rename_that_was_not_synced_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    disk = VolatileDisk(OsDisk())
    for name, content in (("old", b"old"), ("new", b"new")):
        disk.write(tmp_path / name, content)
        disk.sync(tmp_path / name)
    disk.sync_folder(tmp_path)
    disk.replace(tmp_path / "new", tmp_path / "old")

    disk.lose_power()

    assert (tmp_path / "old").read_bytes() == b"old"


def test_a_file_from_elsewhere_counts_as_not_synced(tmp_path: Path) -> None:
    disk = VolatileDisk(OsDisk())
    (tmp_path / "download").write_bytes(b"written by somebody who never synced")
    disk.replace(tmp_path / "download", tmp_path / "image")
    disk.sync_folder(tmp_path)

    disk.lose_power()

    assert (tmp_path / "image").read_bytes() == b""


def test_a_removal_that_was_not_synced_did_not_happen(tmp_path: Path) -> None:
    disk = VolatileDisk(OsDisk())
    disk.write(tmp_path / "back", b"again")
    disk.sync(tmp_path / "back")
    disk.sync_folder(tmp_path)
    disk.unlink(tmp_path / "back")

    disk.lose_power()

    assert (tmp_path / "back").read_bytes() == b"again"


def test_a_folder_whose_name_was_not_synced_takes_its_files_along(tmp_path: Path) -> None:
    disk = VolatileDisk(OsDisk())
    folder = tmp_path / "folder"
    disk.make_folder(folder)
    disk.write(folder / "file", b"synced")
    disk.sync(folder / "file")
    disk.sync_folder(folder)

    disk.lose_power()

    assert not folder.exists()


def test_a_log_keeps_what_was_appended_before_its_last_sync(tmp_path: Path) -> None:
    disk = VolatileDisk(OsDisk())
    log = disk.open_log(tmp_path / "log")
    disk.sync_folder(tmp_path)
    log.append(b"one\n")
    log.sync()
    log.append(b"two\n")
    log.close()

    disk.lose_power()

    assert (tmp_path / "log").read_bytes() == b"one\n"


def test_a_disk_that_never_syncs_loses_what_it_called_durable(tmp_path: Path) -> None:
    volatile = VolatileDisk(OsDisk())
    disk = NoFsyncDisk(volatile)
    disk.write(tmp_path / "promised", b"content")
    disk.sync(tmp_path / "promised")
    disk.sync_folder(tmp_path)

    volatile.lose_power()

    assert not (tmp_path / "promised").exists()


@pytest.mark.parametrize("skipped", SYNCS)
def test_a_disk_can_leave_out_one_kind_of_sync(tmp_path: Path, skipped: str) -> None:
    volatile = VolatileDisk(OsDisk())
    disk = NoFsyncDisk(volatile, [skipped])
    disk.write(tmp_path / "file", b"content")
    disk.sync(tmp_path / "file")
    log = disk.open_log(tmp_path / "log")
    disk.sync_folder(tmp_path)
    log.append(b"line\n")
    log.sync()
    log.close()

    volatile.lose_power()

    left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert (
        left
        == {
            "sync": {"file": b"", "log": b"line\n"},
            "sync_folder": {},
            "sync_log": {"file": b"content", "log": b""},
        }[skipped]
    )


def test_a_disk_that_leaves_out_what_is_no_sync_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be left out"):
        disk_from_spec("no-fsync=link")


def test_every_effect_is_counted_by_name(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    disk = disk_from_spec(f"count={trace}")

    disk.write(tmp_path / "a", b"content")
    disk.sync(tmp_path / "a")
    disk.link(tmp_path / "a", tmp_path / "b")

    assert trace.read_text().splitlines() == [
        f"1 write {tmp_path / 'a'}",
        f"2 sync {tmp_path / 'a'}",
        f"3 link {tmp_path / 'b'}",
    ]


def test_a_spec_with_an_unknown_word_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown words"):
        disk_from_spec("cut=1,typo=2")


_WRITER = """
import sys
from pathlib import Path
from nightkiln.testing.disk import disk_from_spec
disk = disk_from_spec(sys.argv[1])
folder = Path(sys.argv[2])
disk.write(folder / "first", b"1")
disk.sync(folder / "first")
disk.write(folder / "second", b"2")
disk.sync_folder(folder)
"""


@pytest.mark.parametrize(
    ("spec", "left"),
    [
        ("kill=3", {"first": b"1"}),
        ("kill=4", {"first": b"1", "second": b"2"}),
        ("cut=4", {}),
        ("no-fsync,kill=4", {"first": b"1", "second": b"2"}),
    ],
)
def test_the_process_dies_before_the_named_effect(
    tmp_path: Path, spec: str, left: dict[str, bytes]
) -> None:
    record = tmp_path / "record"
    folder = tmp_path / "disk"
    folder.mkdir()

    process = subprocess.run(
        [sys.executable, "-c", _WRITER, f"{spec},record={record}", str(folder)], check=False
    )

    assert process.returncode == -signal.SIGKILL
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == left
    way, step = spec.rsplit(",", maxsplit=1)[-1].split("=")
    assert record.read_text().startswith(f"{way} {step} ")
