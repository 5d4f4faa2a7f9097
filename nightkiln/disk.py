"""Everything nightkiln does to a disk that must survive a crash, one verb per durable effect.

A file is on disk only after its own ``sync``, and its *name* only after ``sync_folder`` of the
folder that holds it; whoever skips one of the two loses the file to a power cut. The verbs are
separate so that a test disk (``nightkiln.testing.disk``) can stop the process, or lose power,
between any two of them. Reading needs no seam: it changes nothing.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Protocol


class Log(Protocol):
    """A file that only grows."""

    def append(self, data: bytes) -> None:
        """Add ``data`` at the end; not durable before ``sync``."""

    def sync(self) -> None:
        """Make everything appended so far durable."""

    def close(self) -> None:
        """Let go of the file. Idempotent."""


class Disk(Protocol):
    """The durable effects; all raise ``OSError``, translated by whoever knows what it means."""

    def write(self, path: Path, data: bytes | Path) -> None:
        """Make a new file of ``data``, or a copy of the file ``data``; fails if it exists."""

    def sync(self, path: Path) -> None:
        """Make a file's content durable."""

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name, in one step; ``FileExistsError`` if the name is taken."""

    def replace(self, source: Path, target: Path) -> None:
        """Rename, in one step, over whatever has the name now."""

    def unlink(self, path: Path) -> None:
        """Take a name away."""

    def make_folder(self, path: Path) -> None:
        """Make one folder in an existing one; nothing happens if it is there."""

    def sync_folder(self, path: Path) -> None:
        """Make the names in a folder durable."""

    def open_log(self, path: Path) -> Log:
        """Open a file for appending, made if missing."""


def state_folder(named: str = "") -> Path:
    """What this user's runs, the reaper and ``nightkiln leases`` share on this computer."""
    if named:
        return Path(named).expanduser().absolute()
    usual = Path(os.environ.get("XDG_STATE_HOME", ""))
    # The specification has relative paths ignored.
    base = usual if usual.is_absolute() else Path.home() / ".local" / "state"
    return base / "nightkiln"


def trouble(error: OSError, path: Path) -> str:
    """What went wrong at ``path``, in the system's words, and what to do if the disk is full."""
    said = f"{path}: {error.strerror or error}"
    if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
        return said
    return (
        f"{said}; {_free_mb(path.parent)} MB are free: free some space in {path.parent} and give "
        "the same command again, what was made is kept"
    )


def _free_mb(folder: Path) -> str:
    free = free_bytes(folder)
    return str(free // 1_000_000) if free is not None else "an unknown number of"


def free_bytes(folder: Path) -> int | None:
    """Bytes that are free where ``folder`` is; None: the system does not say."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def private_folder(folder: Path, disk: Disk) -> None:
    """Make a folder, and those above it that are missing, for their owner's eyes only; durable.

    Raises:
        OSError: it cannot be made.
    """
    missing: list[Path] = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        disk.make_folder(path)
        path.chmod(0o700)
        disk.sync_folder(path.parent)


def write_all(file: int, data: bytes | bytearray) -> None:
    """Write ``data`` to an open file; the system may take less at once than it is given."""
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


class OsLog:
    """A log in the operating system's file system."""

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._file: int | None = os.open(path, flags, 0o644)

    def append(self, data: bytes) -> None:
        assert self._file is not None, "append to a closed log"
        write_all(self._file, data)

    def sync(self) -> None:
        assert self._file is not None, "sync of a closed log"
        os.fsync(self._file)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


class OsDisk:
    """The operating system's file system."""

    def write(self, path: Path, data: bytes | Path) -> None:
        with path.open("xb") as file:
            if isinstance(data, Path):
                with data.open("rb") as source:
                    shutil.copyfileobj(source, file)
            else:
                file.write(data)

    def sync(self, path: Path) -> None:
        _fsync(path, os.O_RDONLY)

    def link(self, source: Path, target: Path) -> None:
        os.link(source, target)

    def replace(self, source: Path, target: Path) -> None:
        source.replace(target)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def make_folder(self, path: Path) -> None:
        path.mkdir(exist_ok=True)

    def sync_folder(self, path: Path) -> None:
        _fsync(path, os.O_RDONLY | os.O_DIRECTORY)

    def open_log(self, path: Path) -> Log:
        return OsLog(path)


def _fsync(path: Path, flags: int) -> None:
    file = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
