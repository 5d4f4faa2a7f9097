"""What this user rents, written down on this computer before anything is asked for.

    leases/<lease id>.json   one lease: intended before it is rented, ended once it costs nothing
    owners/<run>.json        a run that holds leases, and when it was last alive

The book belongs to the user, not to a store or a batch: every run, the reaper and ``nightkiln
leases`` read the same one, so that what a killed run has rented is known to whoever comes next.
Each change is durable when the call returns. All calls block.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from nightkiln.core.errors import StoreUnusable
from nightkiln.core.model import LeaseId, Offer
from nightkiln.core.plain import from_json, to_json
from nightkiln.disk import Disk, OsDisk, trouble

RECORD_BYTES_MAX = 64 * 1024
ALIVE_EVERY_S = 15.0  # between two signs of life of a run that holds leases
DEADMAN_S = 900.0  # without one, its machines end themselves and others may end them
_SAFE = re.compile(r"[A-Za-z0-9._-]{1,200}")  # ids become file names

T = TypeVar("T")


class Standing(StrEnum):
    """How far a lease has come."""

    INTENDED = "intended"  # about to be asked for: it may exist at the provider, or not
    RENTED = "rented"  # the provider has said that it is ours
    ENDED = "ended"  # the provider has said that it costs nothing any more


@dataclass(frozen=True, slots=True)
class Entry:
    """One lease, as the run that rents it has written it down. Times are epoch seconds."""

    lease_id: LeaseId
    batch: str
    epoch: int
    store: str  # where its batch lives
    offer: Offer
    asked_s: float
    expires_s: float  # then it ends by itself
    standing: Standing = Standing.INTENDED
    host: str = ""
    ended_s: float | None = None

    @property
    def provider(self) -> str:
        return self.offer.provider

    @property
    def owner(self) -> str:
        """The run that holds it."""
        return owner_name(self.batch, self.epoch)


@dataclass(frozen=True, slots=True)
class Owner:
    """A run that holds leases."""

    batch: str
    epoch: int
    alive_s: float  # epoch seconds of its last sign of life
    has_ended: bool = False  # in order: whatever it still holds is nobody's


def owner_name(batch: str, epoch: int) -> str:
    """What a run is called in the book."""
    return f"{batch}-{epoch}"


class LeaseBook:
    """The leases and owners in one folder."""

    def __init__(self, folder: Path, *, disk: Disk | None = None) -> None:
        self.folder = folder
        self._disk = disk if disk is not None else OsDisk()

    def intend(self, entry: Entry) -> None:
        """Write down what is about to be rented; before this returns nothing may be asked for."""
        assert entry.standing is Standing.INTENDED
        self._keep(self._leases / _file(entry.lease_id), entry)

    def rented(self, lease_id: LeaseId, *, host: str) -> None:
        """The provider has confirmed it."""
        self._change(lease_id, standing=Standing.RENTED, host=host)

    def taken_over(self, entry: Entry) -> None:
        """Another run of its batch goes on with it, and is its owner from now on."""
        self._keep(self._leases / _file(entry.lease_id), entry)

    def extended(self, lease_id: LeaseId, *, expires_s: float) -> None:
        """It is going to live longer; written down before the machine is told."""
        self._change(lease_id, expires_s=expires_s)

    def ended(self, lease_id: LeaseId, *, ended_s: float) -> None:
        """It costs nothing any more, and the provider has confirmed that."""
        self._change(lease_id, standing=Standing.ENDED, ended_s=ended_s)

    def forget(self, lease_id: LeaseId) -> None:
        """Drop an ended lease whose final row is in its store."""
        self._drop(self._leases / _file(lease_id))

    def entry(self, lease_id: LeaseId) -> Entry | None:
        """One lease; None: this book does not know it."""
        return self._read(self._leases / _file(lease_id), Entry)

    def entries(self, batch: str | None = None) -> list[Entry]:
        """Every lease of the book, or of one batch, oldest first; damaged files are left out.

        A damaged file can only come from outside: it stays where it is, for somebody to see.
        """
        found = [entry for entry in self._all(self._leases, Entry) if batch in {None, entry.batch}]
        return sorted(found, key=lambda entry: (entry.asked_s, entry.lease_id))

    def alive(self, owner: Owner) -> None:
        """A sign of life, or of the orderly end, of a run that holds leases."""
        self._keep(self._owners / _file(owner_name(owner.batch, owner.epoch)), owner)

    def forget_owner(self, batch: str, epoch: int) -> None:
        """Drop a run that has ended and holds nothing."""
        self._drop(self._owners / _file(owner_name(batch, epoch)))

    def owner(self, batch: str, epoch: int) -> Owner | None:
        """A run that holds or held leases; None: the book does not know it."""
        return self._read(self._owners / _file(owner_name(batch, epoch)), Owner)

    def owners(self) -> list[Owner]:
        """Every run of the book."""
        return list(self._all(self._owners, Owner))

    @property
    def _leases(self) -> Path:
        return self.folder / "leases"

    @property
    def _owners(self) -> Path:
        return self.folder / "owners"

    def _change(self, lease_id: LeaseId, **changes: Any) -> None:
        entry = self.entry(lease_id)
        if entry is not None:  # else somebody who found its run dead has closed it meanwhile
            self._keep(self._leases / _file(lease_id), replace(entry, **changes))

    def _keep(self, path: Path, value: Entry | Owner) -> None:
        data = json.dumps(to_json(value), sort_keys=True).encode()
        draft = path.with_suffix(".new")
        try:
            _make(path.parent, self._disk)
            draft.unlink(missing_ok=True)  # of a process that died; nobody else writes this name
            self._disk.write(draft, data)
            self._disk.sync(draft)
            self._disk.replace(draft, path)
            self._disk.sync_folder(path.parent)
        except OSError as error:
            raise StoreUnusable(trouble(error, path)) from error

    def _drop(self, path: Path) -> None:
        try:
            with suppress(FileNotFoundError):
                self._disk.unlink(path)
        except OSError as error:
            raise StoreUnusable(trouble(error, path)) from error

    def _all(self, folder: Path, kind: type[T]) -> Iterator[T]:
        try:
            paths = sorted(folder.glob("*.json"))
        except OSError as error:
            raise StoreUnusable(trouble(error, folder)) from error
        for path in paths:
            value = self._read(path, kind)
            if value is not None:
                yield value

    def _read(self, path: Path, kind: type[T]) -> T | None:
        try:
            with path.open("rb") as file:
                data = file.read(RECORD_BYTES_MAX + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreUnusable(trouble(error, path)) from error
        try:
            return from_json(kind, json.loads(data), where=path.name)
        except (ValueError, RecursionError):
            return None


def _file(name: str) -> str:
    assert _SAFE.fullmatch(name), "ids are made by us, of letters that file names may have"
    return f"{name}.json"


def _make(folder: Path, disk: Disk) -> None:
    missing: list[Path] = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        disk.make_folder(path)
        disk.sync_folder(path.parent)
