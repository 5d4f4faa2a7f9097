"""The run's own diary: JSON lines on the local disk, durable one by one.

Lines that wait at the same moment share one fsync (group commit), so that a hundred images a
second do not need a hundred of them. A thread writes, in the order of the calls, and goes on by
itself while there are lines: between two groups nobody waits for the event loop.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from nightkiln.core.errors import StoreUnusable
from nightkiln.disk import Disk, Log, OsDisk, trouble

LINE_BYTES_MAX = 4 * 1024 * 1024  # one settled job with every attempt and a long prompt: ~10 kB
GROUP_LINES_MAX = 1024  # lines that share one fsync

_Waiting: TypeAlias = tuple[bytes, "asyncio.Future[None]"]  # a line, and who waits for it


class FileJournal:
    """A journal in one file. Once a write has failed, every later line fails with it.

    After a failed fsync nobody can know what is on disk, so a broken journal stays broken.
    """

    def __init__(self, path: Path, *, disk: Disk | None = None) -> None:
        self.path = path
        self._log = _opened(path, disk if disk is not None else OsDisk())
        self._lock = threading.Lock()  # around the next two
        self._waiting: list[_Waiting] = []
        self._is_writing = False
        self._writer: asyncio.Future[None] | None = None  # the newest
        self._broken: StoreUnusable | None = None

    async def append(self, kind: str, fields: Mapping[str, Any]) -> None:
        line = json.dumps({"kind": kind, **fields}, separators=(",", ":")).encode() + b"\n"
        if len(line) > LINE_BYTES_MAX:
            raise StoreUnusable(
                f"{self.path}: a line of {len(line)} bytes; {LINE_BYTES_MAX} are allowed"
            )
        if self._broken is not None:
            raise self._broken
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        with self._lock:
            self._waiting.append((line, done))
            is_first, self._is_writing = not self._is_writing, True
        if is_first:
            self._writer = loop.run_in_executor(None, self._write_all, loop)
        await done

    async def close(self) -> None:
        if self._writer is not None:
            # The writer belongs to every caller of ``append``: a cancelled ``close`` must not
            # take their lines away.
            await asyncio.shield(self._writer)
        self._broken = StoreUnusable(f"{self.path}: the journal is closed")
        self._log.close()

    def _write_all(self, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread: write until no line waits."""
        while True:
            with self._lock:
                group = self._waiting[:GROUP_LINES_MAX]
                del self._waiting[:GROUP_LINES_MAX]
                if not group:
                    self._is_writing = False
                    return
            if self._broken is None:
                self._write([line for line, _ in group])
            loop.call_soon_threadsafe(_tell, [done for _, done in group], self._broken)

    def _write(self, lines: Sequence[bytes]) -> None:
        try:
            self._log.append(b"".join(lines))
            self._log.sync()
        except OSError as error:
            self._broken = StoreUnusable(trouble(error, self.path))
            self._broken.__cause__ = error


def _tell(callers: Sequence[asyncio.Future[None]], error: StoreUnusable | None) -> None:
    for done in callers:
        if done.done():  # its caller was cancelled
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)


def read_journal(
    path: Path, *, on_damage: Callable[[int], None] | None = None
) -> Iterator[dict[str, Any]]:
    """Every whole line, in order; a torn last line (the writer died) is left out silently.

    A damaged line elsewhere is left out too, and its number (from 1) told to ``on_damage``: what
    it would have proven is then done again, which costs less than a night that does not start.

    Raises:
        StoreUnusable: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(LINE_BYTES_MAX + 1):
                number += 1
                while not line.endswith(b"\n"):
                    rest = file.readline(LINE_BYTES_MAX + 1)
                    if not rest:
                        return
                    line = rest[-1:]  # too long to be ours: read on to its end, keep nothing
                entry = _parsed(line)
                if entry is not None:
                    yield entry
                elif on_damage is not None:
                    on_damage(number)
    except OSError as error:
        raise StoreUnusable(trouble(error, path)) from error


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("kind"), str) else None


def _opened(path: Path, disk: Disk) -> Log:
    """Open the log, its name and its folders durable, a torn last line closed off."""
    try:
        _make_folders(path.parent, disk)
        log = disk.open_log(path)
        disk.sync_folder(path.parent)
        if not _ends_whole(path):
            # The next line must not be glued to what is left of one that was never finished.
            log.append(b"\n")
    except OSError as error:
        raise StoreUnusable(trouble(error, path)) from error
    return log


def _make_folders(folder: Path, disk: Disk) -> None:
    missing: list[Path] = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    # A folder that is there is synced all the same: whoever made it may have died before.
    for path in reversed(missing or [folder]):
        disk.make_folder(path)
        disk.sync_folder(path.parent)


def _ends_whole(path: Path) -> bool:
    size = path.stat().st_size
    if size == 0:
        return True
    with path.open("rb") as file:
        file.seek(size - 1)
        return file.read(1) == b"\n"
