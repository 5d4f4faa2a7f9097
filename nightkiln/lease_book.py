"""What this user rents, written down on this computer before anything is asked for.

    leases/<lease id>.json      one lease: intended before it is rented, ended once it costs nothing
    owners/<run>-<digest>.json  a run that holds leases, and when it was last alive

The book belongs to the user, not to a store or a batch: every run, the reaper and ``nightkiln
leases`` read the same one, so that what a killed run has rented is known to whoever comes next.
Each change is durable when the call returns, and made under a lock that all processes share: a
sweep, a run and its successor may write of the same lease at once. All calls block.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from nightkiln import records
from nightkiln.core.errors import StoreUnusable
from nightkiln.core.model import LeaseId, Offer
from nightkiln.core.plain import from_json, to_json
from nightkiln.core.terms import Load
from nightkiln.disk import Disk, OsDisk, private_folder, trouble

ALIVE_EVERY_S = 15.0  # between two signs of life of a run that holds leases
DEADMAN_S = 900.0  # without one, its machines end themselves and others may end them
LOCK_S_MAX, LOCK_AGAIN_S = 60.0, 0.01  # it is held for milliseconds, on a slow disk for seconds
STORE_DIGITS = 8  # hex digits of a store's digest in the name of an owner's file
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
    load: Load = field(default_factory=Load)  # what its batch sends over the wire

    @property
    def provider(self) -> str:
        return self.offer.provider

    @property
    def whose(self) -> tuple[str, str]:
        """Its batch: two stores may have one of the same name, and those are strangers."""
        return self.batch, self.store


@dataclass(frozen=True, slots=True)
class Owner:
    """A run that holds leases."""

    batch: str
    epoch: int
    store: str  # where its batch lives
    alive_s: float  # epoch seconds of its last sign of life
    has_ended: bool = False  # in order: whatever it still holds is nobody's

    @property
    def whose(self) -> tuple[str, str]:
        """Its batch."""
        return self.batch, self.store


class LeaseBook:
    """The leases and owners in one folder."""

    def __init__(self, folder: Path, *, disk: Disk | None = None) -> None:
        self.folder = folder
        self._disk = disk if disk is not None else OsDisk()

    def intend(self, entry: Entry) -> None:
        """Write down what is about to be rented; before this returns nothing may be asked for.

        Raises:
            StoreUnusable: it cannot be written, or another store's batch has a lease of this name.
        """
        assert entry.standing is Standing.INTENDED
        with self._locked():
            before = self.entry(entry.lease_id)
            is_taken = before is not None and before.standing is not Standing.ENDED
            if before is not None and is_taken and before.whose != entry.whose:
                raise StoreUnusable(
                    f"{entry.lease_id} is rented for a batch of the same name in {before.store}; "
                    "'nightkiln reap' ends it once that run is dead, or give this batch another "
                    "--name"
                )
            records.keep(self._leases / _file(entry.lease_id), to_json(entry), self._disk)

    def rented(self, lease_id: LeaseId, *, host: str) -> None:
        """The provider has confirmed it."""
        self._change(lease_id, standing=Standing.RENTED, host=host)

    def taken_over(self, entry: Entry) -> None:
        """Another run of its batch goes on with it, and is its owner from now on."""
        with self._locked():
            records.keep(self._leases / _file(entry.lease_id), to_json(entry), self._disk)

    def extended(self, lease_id: LeaseId, *, expires_s: float) -> None:
        """It is going to live longer; written down before the machine is told."""
        self._change(lease_id, expires_s=expires_s)

    def ended(self, lease_id: LeaseId, *, ended_s: float) -> None:
        """It costs nothing any more, and the provider has confirmed that."""
        self._change(lease_id, standing=Standing.ENDED, ended_s=ended_s)

    def forget(self, lease_id: LeaseId) -> None:
        """Drop an ended lease whose final row is in its store."""
        with self._locked():
            records.drop(self._leases / _file(lease_id), self._disk)

    def entry(self, lease_id: LeaseId) -> Entry | None:
        """One lease; None: this book does not know it."""
        return _value(self._leases / _file(lease_id), Entry)

    def entries(self, batch: str | None = None) -> list[Entry]:
        """Every lease of the book, or of one batch, oldest first; see ``damaged`` for the rest."""
        found = [entry for entry in self._all(self._leases, Entry) if batch in {None, entry.batch}]
        return sorted(found, key=lambda entry: (entry.asked_s, entry.lease_id))

    def damaged(self) -> list[Path]:
        """Files that nobody here can read: from outside, or of a newer nightkiln. Somebody must."""
        folders = ((self._leases, Entry), (self._owners, Owner))
        return [
            path
            for folder, kind in folders
            for path in records.records_in(folder)
            if _value(path, kind) is None and path.exists()
        ]

    def alive(self, owner: Owner) -> None:
        """A sign of life, or of the orderly end, of a run that holds leases."""
        with self._locked():
            records.keep(
                self._path_of(owner.batch, owner.epoch, owner.store), to_json(owner), self._disk
            )

    def forget_owner(self, owner: Owner) -> None:
        """Drop a run that has ended and holds nothing."""
        with self._locked():
            records.drop(self._path_of(owner.batch, owner.epoch, owner.store), self._disk)

    def owner(self, batch: str, epoch: int, store: str) -> Owner | None:
        """A run that holds or held leases; None: the book does not know it."""
        return _value(self._path_of(batch, epoch, store), Owner)

    def owners(self) -> list[Owner]:
        """Every run of the book."""
        return list(self._all(self._owners, Owner))

    @property
    def _leases(self) -> Path:
        return self.folder / "leases"

    @property
    def _owners(self) -> Path:
        return self.folder / "owners"

    def _path_of(self, batch: str, epoch: int, store: str) -> Path:
        digest = hashlib.sha256(store.encode()).hexdigest()[:STORE_DIGITS]
        return self._owners / _file(f"{batch}-{epoch}-{digest}")

    def _change(self, lease_id: LeaseId, **changes: Any) -> None:
        with self._locked():
            entry = self.entry(lease_id)
            # Else somebody who found its run dead has closed it, or it has ended meanwhile: what
            # is over stays over, also where the news of its beginning comes late.
            if entry is not None and entry.standing is not Standing.ENDED:
                records.keep(
                    self._leases / _file(lease_id), to_json(replace(entry, **changes)), self._disk
                )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone with the book, among all processes of this user."""
        lock = self.folder / "book.lock"
        try:
            private_folder(self.folder, self._disk)
            with FileLock(lock, LOCK_S_MAX, mode=0o600, poll_interval=LOCK_AGAIN_S):
                yield
        except Timeout as error:
            raise StoreUnusable(f"{lock} is held by another process; end that process") from error
        except OSError as error:
            raise StoreUnusable(trouble(error, lock)) from error

    def _all(self, folder: Path, kind: type[T]) -> Iterator[T]:
        for path in records.records_in(folder):
            value = _value(path, kind)
            if value is not None:
                yield value


def _value(path: Path, kind: type[T]) -> T | None:
    try:
        return from_json(kind, records.read(path), where=path.name)
    except (ValueError, RecursionError):
        return None


def _file(name: str) -> str:
    assert _SAFE.fullmatch(name), "ids are made by us, of letters that file names may have"
    return f"{name}.json"
