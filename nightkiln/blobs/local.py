"""Files in a local folder, each there whole or not at all, whatever dies whenever.

A file is written under ``.tmp/``, synced, given its name in one step (a link where the name must
be new, a rename where the last writer wins), and then the folder is synced. Temporary files
that a crash leaves behind are swept once they are older than any writer can be.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

from nightkiln.blobs.keys import check_key
from nightkiln.core.errors import StoreUnusable
from nightkiln.disk import Disk, OsDisk, trouble
from nightkiln.ports.blobs import Entry

TEMPORARY = ".tmp"
TEMPORARY_AGE_S_MAX = 24 * 3600.0  # no write takes a day


class LocalBlobs:
    """Blobs under one folder of a local, or mounted, file system. Safe to use from many threads."""

    def __init__(self, root: Path, *, disk: Disk | None = None) -> None:
        self.root = root.absolute()
        self._disk = disk if disk is not None else OsDisk()
        self._durable_folders: set[Path] = set()
        self._lock = threading.Lock()

    @property
    def staging(self) -> Path:
        """A folder for files on their way in: from here ``put`` moves instead of copying."""
        return self.root / TEMPORARY

    def put(self, key: str, data: bytes | Path) -> None:
        target = self.path(key)
        with self._translated(target):
            self._ensure_folder(target.parent)
            source = self._staged(data)
            self._disk.sync(source)
            self._disk.replace(source, target)
            self._disk.sync_folder(target.parent)

    def create(self, key: str, data: bytes) -> bool:
        target = self.path(key)
        with self._translated(target):
            self._ensure_folder(target.parent)
            if target.exists():
                # The other writer may not have come to its last step yet; "it exists" must
                # not be taken back by a power cut either.
                self._disk.sync_folder(target.parent)
                return False
            source = self._staged(data)
            self._disk.sync(source)
            try:
                self._disk.link(source, target)
                is_ours = True
            except FileExistsError:
                is_ours = False
            self._disk.unlink(source)
            self._disk.sync_folder(target.parent)
            return is_ours

    def get(self, key: str) -> bytes:
        path = self.path(key)
        with self._translated(path):
            try:
                return path.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                raise KeyError(key) from None

    def size(self, key: str) -> int | None:
        path = self.path(key)
        with self._translated(path):
            try:
                return path.stat().st_size
            except (FileNotFoundError, NotADirectoryError):
                return None

    def list(self, prefix: str) -> Iterator[str]:
        with self._translated(self.root / prefix):
            yield from _walk(self.root, "", prefix)

    def entries(self, prefix: str) -> Iterator[Entry]:
        for key in self.list(prefix):
            path = self.path(key)
            with self._translated(path), contextlib.suppress(FileNotFoundError):
                found = path.stat()
                yield Entry(key, found.st_size, found.st_mtime)

    def remove(self, key: str) -> None:
        path = self.path(key)
        with self._translated(path):
            try:
                self._disk.unlink(path)
            except (FileNotFoundError, NotADirectoryError):
                return
            self._disk.sync_folder(path.parent)

    def link(self, key: str, *, expires_s: float) -> str:
        del expires_s  # whoever may read the folder may read it for good
        return self.path(key).as_uri()

    def path(self, key: str) -> Path:
        """Where the bytes of ``key`` lie, or would lie."""
        return self.root / check_key(key)

    def sweep(self, *, now_s: float) -> int:
        """Remove temporary files that a crash left behind more than a day ago; how many."""
        swept = 0
        with self._translated(self.staging):
            for path in self.staging.iterdir() if self.staging.is_dir() else ():
                if path.is_file() and now_s - path.stat().st_mtime > TEMPORARY_AGE_S_MAX:
                    path.unlink(missing_ok=True)
                    swept += 1
        return swept

    def _staged(self, data: bytes | Path) -> Path:
        """A file of our file system that holds ``data`` and may be renamed."""
        self._ensure_folder(self.staging)
        if isinstance(data, Path) and data.stat().st_dev == self.staging.stat().st_dev:
            return data
        temporary = self.staging / uuid.uuid4().hex
        self._disk.write(temporary, data)
        return temporary

    def _ensure_folder(self, folder: Path) -> None:
        """Make ``folder`` and make its name durable, once in the life of this object.

        A folder that is already there is synced too: whoever made it may have died before.
        """
        with self._lock:
            missing: list[Path] = []
            while folder not in self._durable_folders:
                missing.append(folder)
                if folder == self.root:
                    break
                folder = folder.parent
            for path in reversed(missing):
                if path == self.root:
                    path.mkdir(parents=True, exist_ok=True)
                else:
                    self._disk.make_folder(path)
                self._disk.sync_folder(path.parent)
                self._durable_folders.add(path)

    @contextlib.contextmanager
    def _translated(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreUnusable(_explained(error, path, self.root)) from error


def _walk(root: Path, parent: str, prefix: str) -> Iterator[str]:
    """Keys below ``parent`` that start with ``prefix``, in the order of the whole key."""
    try:
        with os.scandir(root / parent) as entries:
            # A folder is compared with its slash, as it is in the keys of what it holds.
            names = sorted(
                entry.name + "/" if entry.is_dir() else entry.name
                for entry in entries
                if not entry.name.startswith(".")
            )
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        key = parent + name
        if name.endswith("/"):
            if key.startswith(prefix) or prefix.startswith(key):
                yield from _walk(root, key, prefix)
        elif key.startswith(prefix):
            yield key


def _explained(error: OSError, path: Path, root: Path) -> str:
    said = trouble(error, path)
    if error.errno == errno.EXDEV:
        return f"{said}: it is on another file system than {root / TEMPORARY}; keep a store on one"
    if error.errno in {errno.EPERM, errno.EOPNOTSUPP} and error.filename2:
        return f"{said}; a store needs a file system with hard links"
    return said
