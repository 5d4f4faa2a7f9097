"""Files on their way into a slow store wait on the local disk, durable, and the fleet goes on.

``put`` of a file returns as soon as it is safe here; it is brought into the store meanwhile. A
shard that is created afterwards waits until every file before it has arrived, so nobody ever reads
a row without its files. What waits is bounded: then ``put`` waits, too, and with it the machine
whose result it is. What a killed process has left waiting is brought by the next one on this
computer.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from nightkiln.blobs.local import LocalBlobs
from nightkiln.core.errors import StoreUnusable
from nightkiln.disk import Disk, private_folder, trouble
from nightkiln.ports.blobs import Blobs, Entry

UPLOADS = 8  # at once
AGAIN_S = 2.0  # after a failure, before the next try
PATIENCE_S = 60.0  # with a store that fails all the time; a run gives its batch up then, too
LOOK_S = 1.0  # how often a waiter looks whether the patience is at its end
LEFT_MAX = 1_000  # spools of killed processes that are looked at
LEFT_FREE_BYTES = 1_000_000_000  # of the disk, for downloads and journals
LOCK = ".lock"

# Rows name files. Whatever else is created says who works or what it cost, and must not wait.
AFTER_FILES = ("results/",)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A file that is safe here and not in the store yet."""

    key: str
    place: LocalBlobs
    size: int


def fitting(bytes_max: int, free: int | None) -> int:
    """How much may wait on a disk with so many bytes free; None: the system does not say."""
    return bytes_max if free is None else max(0, min(bytes_max, free - LEFT_FREE_BYTES))


class SpooledBlobs:
    """Blobs behind a spool. Safe to use from many threads."""

    def __init__(
        self,
        blobs: Blobs,
        folder: Path,
        *,
        disk: Disk,
        bytes_max: int,
        uploads: int = UPLOADS,
        patience_s: float = PATIENCE_S,
        again_s: float = AGAIN_S,
    ) -> None:
        self._blobs, self._disk = blobs, disk
        self._bytes_max, self._uploads = bytes_max, uploads
        self._patience_s, self._again_s = patience_s, again_s
        self._changed = threading.Condition()  # around everything below
        self._waiting: dict[str, _Waiting] = {}
        self._taken: set[str] = set()  # names of files in the own spool, or on their way into it
        self._next: deque[_Waiting] = deque()
        self._bytes, self._workers = 0, 0
        self._error: StoreUnusable | None = None  # the newest, while nothing succeeds
        self._failing_since_s = 0.0
        self._is_closed = threading.Event()
        self._locks: list[weakref.finalize[..., SpooledBlobs]] = []
        self._mine: LocalBlobs | None = None  # while what others left is looked for
        try:
            self._adopt(folder)
            self._mine = self._claimed(folder / uuid.uuid4().hex, is_new=True)
        except OSError as error:
            raise StoreUnusable(trouble(error, folder)) from error

    def put(self, key: str, data: bytes | Path) -> None:
        if not isinstance(data, Path) or not self._bytes_max:
            self._blobs.put(key, data)
            return
        size = _size_of(data)
        with self._changed:
            # The same pixels, rendered twice, have one name: the second waits for the first.
            self._wait(lambda: key not in self._taken and self._has_room(size))
            self._taken.add(key)
            self._bytes += size
        try:
            assert self._mine is not None, "it is another's only while it is looked for"
            self._mine.put(key, data)
        except BaseException:
            with self._changed:
                self._bytes -= size
                self._taken.discard(key)
                self._changed.notify_all()
            raise
        self._send(_Waiting(key, self._mine, size))

    def create(self, key: str, data: bytes) -> bool:
        if key.startswith(AFTER_FILES):
            self.flush()
        return self._blobs.create(key, data)

    def flush(self) -> None:
        """Wait until everything that was put before is in the store.

        Raises:
            StoreUnusable: the store has been failing for longer than is waited.
        """
        with self._changed:
            before = set(self._waiting)
            self._wait(lambda: before.isdisjoint(self._waiting))

    def get(self, key: str) -> bytes:
        waiting = self._waiting.get(key)
        if waiting is not None:
            with contextlib.suppress(KeyError):  # it has just arrived
                return waiting.place.get(key)
        return self._blobs.get(key)

    def size(self, key: str) -> int | None:
        waiting = self._waiting.get(key)
        return waiting.size if waiting is not None else self._blobs.size(key)

    def list(self, prefix: str) -> Iterator[str]:
        return self._blobs.list(prefix)

    def entries(self, prefix: str) -> Iterator[Entry]:
        return self._blobs.entries(prefix)

    def remove(self, key: str) -> None:
        self._blobs.remove(key)

    def link(self, key: str, *, expires_s: float) -> str:
        return self._blobs.link(key, expires_s=expires_s)

    def close(self) -> None:
        """Bring nothing more; what waits is left to whoever comes next."""
        self._is_closed.set()
        with self._changed:
            self._next.clear()
            while self._workers:
                self._changed.wait()
        for lock in self._locks:
            lock()

    # What was left, and what is new.

    def _adopt(self, folder: Path) -> None:
        """Take over what processes have left that are gone."""
        private_folder(folder, self._disk)
        for left in islice(folder.iterdir(), LEFT_MAX):
            place = self._claimed(left, is_new=False)
            if place is None:
                continue  # its process lives
            found = list(place.entries(""))
            for entry in found:
                self._bytes += entry.size
                self._send(_Waiting(entry.key, place, entry.size))
            if not found:
                shutil.rmtree(left, ignore_errors=True)

    def _claimed(self, folder: Path, *, is_new: bool) -> LocalBlobs | None:
        """A spool that is ours until this object is gone, or the process is."""
        if is_new:
            self._disk.make_folder(folder)
        elif not folder.is_dir():
            return None
        file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            return None
        self._locks.append(weakref.finalize(self, os.close, file))
        return LocalBlobs(folder, disk=self._disk)

    # Bringing it.

    def _send(self, waiting: _Waiting) -> None:
        with self._changed:
            self._waiting[waiting.key] = waiting
            self._next.append(waiting)
            if self._workers < self._uploads:
                self._workers += 1
                threading.Thread(target=self._bring_all, name="spool", daemon=True).start()

    def _bring_all(self) -> None:
        """In a thread: until nothing is left to be begun."""
        while True:
            with self._changed:
                if not self._next or self._is_closed.is_set():
                    self._workers -= 1
                    self._changed.notify_all()
                    return
                waiting = self._next.popleft()
            error = self._brought(waiting)
            with self._changed:
                self._note(waiting, error)
            if error is not None:
                self._is_closed.wait(self._again_s)

    def _brought(self, waiting: _Waiting) -> StoreUnusable | None:
        """Put one file into the store; what kept it out."""
        try:
            self._blobs.put(waiting.key, waiting.place.path(waiting.key))
        except StoreUnusable as error:
            return error
        return None

    def _note(self, waiting: _Waiting, error: StoreUnusable | None) -> None:
        if error is None:
            self._error = None
            self._bytes -= waiting.size
            if waiting.place is self._mine:
                self._taken.discard(waiting.key)
            if self._waiting.get(waiting.key) is waiting:
                del self._waiting[waiting.key]
        else:
            if self._error is None:
                self._failing_since_s = time.monotonic()
            self._error = error
            self._next.append(waiting)
        self._changed.notify_all()

    def _has_room(self, size: int) -> bool:
        return not self._bytes or self._bytes + size <= self._bytes_max

    def _wait(self, holds: Callable[[], bool]) -> None:
        """Inside the condition: until it ``holds``, while the store does not fail for good."""
        while not holds():
            if self._error is not None:
                failing_s = time.monotonic() - self._failing_since_s
                if failing_s > self._patience_s or self._is_closed.is_set():
                    raise StoreUnusable(f"{self._error}; what was made waits here") from self._error
            self._changed.wait(LOOK_S)


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise StoreUnusable(trouble(error, path)) from error
