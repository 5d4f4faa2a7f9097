"""Disks that stop the process, lose power, or do not keep their word.

``VolatileDisk`` does what the strictest file system may do: at a power cut everything that was
not synced is gone. Content written since the last ``sync`` of its file is cut off, and names made,
moved or taken away since the last ``sync_folder`` of their folder are as they were before.
Real disks usually lose less, which is why a missing fsync is never found by testing on one.

``disk_from_spec`` builds what a real process under test is given (``NIGHTKILN_DISK``).
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nightkiln.disk import Disk, Log, OsDisk
from nightkiln.testing.mutants import SYNCS, NoFsyncDisk, NoJournalDisk, ThroughDisk

__all__ = ["NoFsyncDisk", "SteppedDisk", "VolatileDisk", "disk_from_spec", "place_of"]


def disk_from_spec(spec: str) -> Disk:
    """A disk as words separated by commas describe it.

    ``cut=17``       lose power just before the 17th durable effect, then SIGKILL this process
    ``kill=17``      SIGKILL this process there; what was written stays
    ``cut=link:results:2``  or there: before the second ``link`` in the folder ``results``
    ``full=link:results``  fail with "No space left on device" there, each time; with ``:2`` once
    ``count=FILE``   append one line per effect to FILE, as it happens
    ``record=FILE``  append the effect before which ``cut`` or ``kill`` struck to FILE
    ``no-fsync``     a mutant: syncs are counted and not done; ``no-fsync=sync_log`` and the like:
                     only that one of ``SYNCS`` is not
    ``no-journal``   a mutant: what is appended to a log is thrown away
    """
    words = dict(word.partition("=")[::2] for word in spec.split(","))
    unknown = set(words) - {"cut", "kill", "full", "count", "record", "no-fsync", "no-journal"}
    if unknown:
        raise ValueError(f"{spec!r}: unknown words {sorted(unknown)}")
    volatile = VolatileDisk(OsDisk())
    skipped = (words["no-fsync"],) if words.get("no-fsync") else SYNCS
    disk: Disk = NoFsyncDisk(volatile, skipped) if "no-fsync" in words else volatile
    disk = NoJournalDisk(disk) if "no-journal" in words else disk

    seen: Counter[str] = Counter()

    def before(step: int, name: str) -> None:
        place = place_of(name)
        seen[place] += 1
        if "count" in words:
            _append_line(words["count"], f"{step} {name}")
        if words.get("full") in {place, f"{place}:{seen[place]}"}:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        for way in ("cut", "kill"):
            if words.get(way) in {str(step), f"{place}:{seen[place]}"}:
                if "record" in words:
                    _append_line(words["record"], f"{way} {step} {name}")
                if way == "cut":
                    volatile.lose_power()
                os.kill(os.getpid(), signal.SIGKILL)

    return SteppedDisk(disk, before)


def place_of(effect: str) -> str:
    """``link:results`` of an effect's name: its verb, and the folder of store or state it is in."""
    verb, _, path = effect.partition(" ")
    inside = path.partition("/store/")[2] or path.partition("/state/")[2]
    return f"{verb}:{inside.partition('/')[0]}"


class SteppedDisk(ThroughDisk):
    """Counts every durable effect, from 1, and calls ``before`` with its number and name.

    ``before`` may stop the process, or raise: then that effect does not happen.
    """

    def __init__(self, inner: Disk, before: Callable[[int, str], None]) -> None:
        super().__init__(inner)
        self._before = before
        self._steps = 0
        # Writers run in several threads; effects are made one by one, so that "between two of
        # them" means something, and nobody writes while the power goes.
        self._lock = threading.RLock()

    def step(self, name: str, path: Path, effect: Callable[[], None]) -> None:
        """Make one effect, unless ``before`` prevents it."""
        with self._lock:
            self._steps += 1
            self._before(self._steps, f"{name} {path}")
            effect()

    def write(self, path: Path, data: bytes | Path) -> None:
        self.step("write", path, lambda: self._inner.write(path, data))

    def sync(self, path: Path) -> None:
        self.step("sync", path, lambda: self._inner.sync(path))

    def link(self, source: Path, target: Path) -> None:
        self.step("link", target, lambda: self._inner.link(source, target))

    def replace(self, source: Path, target: Path) -> None:
        self.step("replace", target, lambda: self._inner.replace(source, target))

    def unlink(self, path: Path) -> None:
        self.step("unlink", path, lambda: self._inner.unlink(path))

    def make_folder(self, path: Path) -> None:
        self.step("make_folder", path, lambda: self._inner.make_folder(path))

    def sync_folder(self, path: Path) -> None:
        self.step("sync_folder", path, lambda: self._inner.sync_folder(path))

    def open_log(self, path: Path) -> Log:
        opened: list[Log] = []
        self.step("open_log", path, lambda: opened.append(self._inner.open_log(path)))
        return _SteppedLog(self, opened[0], path)


class _SteppedLog:
    def __init__(self, disk: SteppedDisk, inner: Log, path: Path) -> None:
        self._disk = disk
        self._inner = inner
        self._path = path

    def append(self, data: bytes) -> None:
        self._disk.step("append", self._path, lambda: self._inner.append(data))

    def sync(self) -> None:
        self._disk.step("sync_log", self._path, self._inner.sync)

    def close(self) -> None:
        self._inner.close()


@dataclass(frozen=True, slots=True)
class _NameChange:
    """A change of names in ``folder`` that was never synced, and how to take it back."""

    folder: Path
    undo: Callable[[], None]


class VolatileDisk(ThroughDisk):
    """Remembers what is not durable yet, so that ``lose_power`` can take it back.

    One thread at a time (``SteppedDisk`` sees to it).
    """

    def __init__(self, inner: Disk) -> None:
        super().__init__(inner)
        self._durable_bytes: dict[Path, int] = {}  # of every file that was written here
        self._changes: list[_NameChange] = []  # oldest first

    def lose_power(self) -> None:
        """Take back everything that was not synced; the disk is of no use after that."""
        for path, durable in self._durable_bytes.items():
            if path.exists() and path.stat().st_size > durable:
                os.truncate(path, durable)
        for change in reversed(self._changes):
            change.undo()

    def write(self, path: Path, data: bytes | Path) -> None:
        self._inner.write(path, data)
        self._durable_bytes[path] = 0
        self._renamed(path, lambda: _drop(path))

    def sync(self, path: Path) -> None:
        self._inner.sync(path)
        self._durable_bytes[path] = path.stat().st_size

    def link(self, source: Path, target: Path) -> None:
        self._inner.link(source, target)
        self._durable_bytes[target] = self._durable_bytes.get(source, 0)
        self._renamed(target, lambda: _drop(target))

    def replace(self, source: Path, target: Path) -> None:
        before = target.read_bytes() if target.exists() else None
        self._inner.replace(source, target)
        # A file that was written elsewhere was never seen to be synced: it counts as not synced.
        self._durable_bytes[target] = self._durable_bytes.pop(source, 0)
        self._renamed(target, lambda: _restore(target, before))

    def unlink(self, path: Path) -> None:
        before = path.read_bytes()
        durable = self._durable_bytes.pop(path, len(before))
        self._inner.unlink(path)
        self._renamed(path, lambda: _restore(path, before[:durable]))

    def make_folder(self, path: Path) -> None:
        is_new = not path.exists()
        self._inner.make_folder(path)
        if is_new:
            self._renamed(path, lambda: _drop(path))

    def sync_folder(self, path: Path) -> None:
        self._inner.sync_folder(path)
        self._changes = [change for change in self._changes if change.folder != path]

    def open_log(self, path: Path) -> Log:
        is_new = not path.exists()
        log = self._inner.open_log(path)
        self._durable_bytes[path] = path.stat().st_size
        if is_new:
            self._renamed(path, lambda: _drop(path))
        return _VolatileLog(log, lambda: self.sync_size(path))

    def sync_size(self, path: Path) -> None:
        """All that a log holds now is durable."""
        self._durable_bytes[path] = path.stat().st_size

    def _renamed(self, path: Path, undo: Callable[[], None]) -> None:
        self._changes.append(_NameChange(path.parent, undo))


class _VolatileLog:
    def __init__(self, inner: Log, synced: Callable[[], None]) -> None:
        self._inner = inner
        self._synced = synced

    def append(self, data: bytes) -> None:
        self._inner.append(data)

    def sync(self) -> None:
        self._inner.sync()
        self._synced()

    def close(self) -> None:
        self._inner.close()


def _drop(path: Path) -> None:
    """Remove what never reached the disk: a file, or a folder with all that is in it."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _restore(path: Path, before: bytes | None) -> None:
    path.unlink(missing_ok=True)
    if before is not None and path.parent.is_dir():
        path.write_bytes(before)


def _append_line(path: str, line: str) -> None:
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(line + "\n")
