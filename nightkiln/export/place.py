"""The folder that an export goes to: one writer, and nothing has its name before it is whole.

Files are written aside, under ``.nightkiln-export/``, and ``land`` makes them durable and gives
them their names. What was not landed is swept by the next one to come.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightkiln.core.errors import BadInput, Problem, StoreUnusable
from nightkiln.disk import Disk, trouble
from nightkiln.store.store import MARKER

WORK = ".nightkiln-export"
LOCK = "lock"
OPTION = "--to"
ASIDE = ".tmp"  # how the names of files end that have not landed
BUFFER_BYTES = 1 << 20
SYNC_THREADS = 8  # a disk makes several files durable at once: 0.3 ms each instead of 4, measured

_ADDRESS = re.compile(r"[a-z][a-z0-9]+:/")  # of a path: it has lost the second slash


@dataclass(frozen=True, slots=True)
class Made:
    """One file of the export."""

    path: str  # below the folder, with "/"
    sha256: str
    size: int  # bytes


class Stream(io.RawIOBase):
    """A file that is written from its beginning to its end, its checksum taken on the way."""

    def __init__(self, disk: Disk, path: Path) -> None:
        super().__init__()
        self.aside = path
        self._log = disk.open_log(path)
        self._buffer = bytearray()
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """Of everything written so far."""
        return self._digest.hexdigest()

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size

    def write(self, data: Any) -> int:
        with memoryview(data) as given, given.cast("B") as view:
            self._digest.update(view)
            for begin in range(0, view.nbytes, BUFFER_BYTES):  # a whole file is not held twice
                self._buffer += view[begin : begin + BUFFER_BYTES]
                if len(self._buffer) >= BUFFER_BYTES:
                    self._empty()
            self.size += view.nbytes
            return view.nbytes

    def settle(self) -> None:
        """Make everything written durable."""
        self._empty()
        self._log.sync()

    def close(self) -> None:
        """Let go of the file; what was not settled may be lost."""
        if not self.closed:
            self._log.close()
        super().close()

    def _empty(self) -> None:
        if self._buffer:
            self._log.append(bytes(self._buffer))
            self._buffer.clear()


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A file aside, on its way to its name."""

    aside: Path
    target: Path
    is_synced: bool


class Place:
    """One export's folder, while it is ours. Made by ``opened``."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self.folder = folder
        self.work = folder / WORK
        self._disk = disk
        self._waiting: list[_Waiting] = []
        self._durable_folders: set[Path] = set()
        self._asides: list[Path] = []  # not landed, and perhaps not whole
        self._count = 0

    def write(self, path: str, data: bytes, *, sha256: str | None = None) -> Made:
        """A whole file; it has its name after ``land``."""
        aside = self._aside()
        self._disk.write(aside, data)
        self._waiting.append(_Waiting(aside, self.folder / path, is_synced=False))
        digest = sha256 if sha256 is not None else hashlib.sha256(data).hexdigest()
        return Made(path, digest, len(data))

    @contextmanager
    def stream(self, path: str) -> Iterator[Stream]:
        """A file to write to; it has its name after ``land``, if the context ended well."""
        aside = self._aside()
        with contextlib.closing(Stream(self._disk, aside)) as stream:
            yield stream
            stream.settle()
        self._waiting.append(_Waiting(aside, self.folder / path, is_synced=True))

    def land(self) -> None:
        """Everything written so far is durable and has its name, when this returns."""
        unsynced = [one.aside for one in self._waiting if not one.is_synced]
        if unsynced:
            with ThreadPoolExecutor(min(SYNC_THREADS, len(unsynced))) as pool:
                list(pool.map(self._disk.sync, unsynced))
        for one in self._waiting:
            self.ensure(one.target.parent)
            self._disk.replace(one.aside, one.target)
        for folder in sorted({one.target.parent for one in self._waiting}):
            self._disk.sync_folder(folder)
        self._waiting.clear()
        self._asides.clear()

    def remove(self, path: str) -> None:
        """Take a file away, durably; nothing happens if it is not there."""
        target = self.folder / path
        if target.exists():
            self._disk.unlink(target)
            self._disk.sync_folder(target.parent)

    def read(self, path: str) -> bytes | None:
        """The bytes of a file; None if it is not there."""
        try:
            return (self.folder / path).read_bytes()
        except FileNotFoundError:
            return None

    def ensure(self, folder: Path) -> None:
        """Make a folder, and those above it, durably; once in the life of this object."""
        missing: list[Path] = []
        while folder not in self._durable_folders:
            missing.append(folder)
            if folder == self.folder:
                break
            folder = folder.parent
        for path in reversed(missing):
            if not path.parent.is_dir():
                path.parent.mkdir(parents=True)  # above the export: the user's, but for its names
            self._disk.make_folder(path)
            self._disk.sync_folder(path.parent)
            self._durable_folders.add(path)

    def sweep(self) -> None:
        """Remove what was written aside and never landed."""
        for path in self.work.glob(f"*{ASIDE}"):
            path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove what this object wrote aside, so that a full disk has its room back."""
        for path in self._asides:
            with contextlib.suppress(OSError):
                self._disk.unlink(path)
        self._waiting.clear()
        self._asides.clear()

    def close_work(self) -> None:
        """The export is whole, or was never begun: what only it needed goes."""
        shutil.rmtree(self.work, ignore_errors=True)

    def _aside(self) -> Path:
        self._count += 1
        path = self.work / f"{self._count:08d}{ASIDE}"
        self._asides.append(path)
        return path


@contextmanager
def opened(folder: Path, disk: Disk) -> Iterator[Place]:
    """The folder, for one export alone, as long as the context lasts.

    Raises:
        BadInput: it holds something else, lies in a store, or another export is at it.
        StoreUnusable: it cannot be written.
    """
    if _ADDRESS.match(str(folder)):
        raise BadInput([Problem(OPTION, f"{folder} is no local folder", "name a new folder")])
    folder = folder.expanduser().absolute()
    _check(folder)
    place = Place(folder, disk)
    was_there = folder.exists()
    try:
        place.ensure(place.work)
        with _locked(place.work / LOCK, folder):
            place.sweep()
            try:
                yield place
            except BadInput:
                place.discard()
                _leave_no_trace(place, was_there=was_there)
                raise
            finally:
                place.discard()
    except OSError as error:
        raise StoreUnusable(trouble(error, folder / WORK)) from error


def _check(folder: Path) -> None:
    if folder.is_file():
        raise BadInput([Problem(OPTION, f"{folder} is a file", "name a new folder")])
    for above in (folder, *folder.parents):
        if (above / MARKER).is_file():
            what = f"{folder} lies in the store {above}, which looks after its own files"
            raise BadInput([Problem(OPTION, what, "name a folder elsewhere")])


def _leave_no_trace(place: Place, *, was_there: bool) -> None:
    """What could not be begun leaves neither a folder nor anything in it."""
    if not any(path.name != LOCK for path in place.work.iterdir()):
        place.close_work()

        if not was_there:
            with contextlib.suppress(OSError):
                place.folder.rmdir()


@contextmanager
def _locked(path: Path, folder: Path) -> Iterator[None]:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            what = f"another export is writing to {folder}"
            fix = "wait for its end, or name another folder"
            raise BadInput([Problem(OPTION, what, fix)]) from error
        yield
    finally:
        os.close(file)
