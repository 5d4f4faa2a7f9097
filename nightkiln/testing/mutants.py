"""Disks that leave something out: whoever tests durability must catch each of them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from nightkiln.disk import Disk, Log

SYNCS = ("sync", "sync_folder", "sync_log")  # the effects that make something durable


class ThroughDisk:
    """Does what the disk beneath it does; others override what they change."""

    def __init__(self, inner: Disk) -> None:
        self._inner = inner

    def write(self, path: Path, data: bytes | Path) -> None:
        self._inner.write(path, data)

    def sync(self, path: Path) -> None:
        self._inner.sync(path)

    def link(self, source: Path, target: Path) -> None:
        self._inner.link(source, target)

    def replace(self, source: Path, target: Path) -> None:
        self._inner.replace(source, target)

    def unlink(self, path: Path) -> None:
        self._inner.unlink(path)

    def make_folder(self, path: Path) -> None:
        self._inner.make_folder(path)

    def sync_folder(self, path: Path) -> None:
        self._inner.sync_folder(path)

    def open_log(self, path: Path) -> Log:
        return self._inner.open_log(path)


class NoFsyncDisk(ThroughDisk):
    """The mutant that a kill test must catch: it says "durable" and does nothing.

    ``skipped``: those of ``SYNCS`` that it leaves out.
    """

    def __init__(self, inner: Disk, skipped: Collection[str] = SYNCS) -> None:
        super().__init__(inner)
        if not set(skipped) <= set(SYNCS):
            raise ValueError(f"{list(skipped)} cannot be left out; {list(SYNCS)} can")
        self._skipped = skipped

    def sync(self, path: Path) -> None:
        if "sync" not in self._skipped:
            self._inner.sync(path)

    def sync_folder(self, path: Path) -> None:
        if "sync_folder" not in self._skipped:
            self._inner.sync_folder(path)

    def open_log(self, path: Path) -> Log:
        log = self._inner.open_log(path)
        return _NoFsyncLog(log) if "sync_log" in self._skipped else log


class _NoFsyncLog:
    def __init__(self, inner: Log) -> None:
        self._inner = inner

    def append(self, data: bytes) -> None:
        self._inner.append(data)

    def sync(self) -> None:
        """Not."""

    def close(self) -> None:
        self._inner.close()


class NoJournalDisk(ThroughDisk):
    """Another mutant: logs are opened, and what is appended to them is thrown away."""

    def open_log(self, path: Path) -> Log:
        return _NoLog(self._inner.open_log(path))


class _NoLog:
    def __init__(self, inner: Log) -> None:
        self._inner = inner

    def append(self, data: bytes) -> None:
        """Not."""

    def sync(self) -> None:
        self._inner.sync()

    def close(self) -> None:
        self._inner.close()
