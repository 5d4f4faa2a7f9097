"""Files that belong to nobody, and taking them away without taking anybody's.

An image is an orphan when no row names it, it is old, and no run can adopt it any more: its batch
is worked on by nobody, and its last run ended in order, so that no journal proves anything that is
not committed. While a batch's orphans are removed its claim is held, as by a run: a run that begins
meanwhile could render the very same file again, and commit it before it is taken away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from nightkiln.core.errors import ClaimHeld, StoreUnusable
from nightkiln.ports.blobs import Blobs
from nightkiln.ports.uploads import INCOMING
from nightkiln.store.audit import (
    IMAGES,
    Tell,
    adoptable_batches,
    batch_of,
    has_begun,
    list_claimed,
    list_found,
    scratch,
    unnamed_compact_files,
)
from nightkiln.store.claim import acquire
from nightkiln.store.claims import (
    claim_key,
    newest_claim,
    read_claim,
    write_ended,
    write_heartbeat,
)
from nightkiln.store.store import Store

OLDER_THAN_S = 7 * 24 * 3600.0
OLDER_THAN_S_MIN = 24 * 3600.0  # nothing takes a day from its first file to its commit
HEARTBEAT_EVERY = 200  # files removed


@dataclass(frozen=True, slots=True)
class Orphan:
    """A file that belongs to nobody."""

    key: str
    bytes: int
    modified_s: float


@dataclass(slots=True)
class Collectable:
    """What a look at the store has found, by batch; "" has what belongs to no batch."""

    orphans: dict[str, list[Orphan]] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)  # files that may still be adopted, by batch
    young: int = 0  # orphans that are not old enough yet
    epochs: dict[str, int] = field(default_factory=dict)  # of each batch, before rows were read

    @property
    def all(self) -> list[Orphan]:
        """Every orphan."""
        return [one for orphans in self.orphans.values() for one in orphans]


@dataclass(slots=True)
class Collected:
    """What was removed."""

    files: int = 0
    bytes: int = 0
    skipped: dict[str, str] = field(default_factory=dict)  # batches that were left alone, and why


def collectable(store: Store, *, older_than_s: float, now_s: float, tell: Tell) -> Collectable:
    """Find what belongs to nobody; changes nothing. Blocking.

    Raises:
        StoreUnusable: the store cannot be read, or rows are damaged: what they name is unknown.
    """
    assert older_than_s >= OLDER_THAN_S_MIN, "what is on its way may be as old"
    found = Collectable()
    with scratch() as con:
        list_found(store.blobs, con, (IMAGES, INCOMING), tell)
        batches = {key.split("/")[1] for key in store.blobs.list("claims/")}
        for claimed in batches:
            claim = newest_claim(store.blobs, claimed)
            found.epochs[claimed] = claim.epoch if claim is not None else 0
            if (
                claim is not None
                and claim.ended is None
                and not has_begun(store.blobs, claimed, claim.epoch)
            ):
                found.orphans[claimed] = []  # held by a collection that was killed, perhaps
        adoptable = adoptable_batches(store.blobs, con)
        damaged = list_claimed(store, con, tell)  # later: what was committed until now has rows
        if damaged:
            raise StoreUnusable(
                f"{damaged[0].key}: {damaged[0].what}; what its rows name is not known, so nothing "
                "is removed; 'nightkiln store verify' tells more"
            )
        sql = "from found anti join claimed on key = uri order by key"
        unnamed = [Orphan(*row) for row in con.execute(sql).fetchall()]
    unwanted = unnamed_compact_files(store.blobs)
    unnamed += [
        Orphan(entry.key, entry.size, entry.modified_s)
        for entry in store.blobs.entries("compact/")
        if entry.key in unwanted
    ]
    for one in unnamed:
        batch = batch_of(one.key)
        if batch is not None and batch in adoptable:
            found.kept[batch] = found.kept.get(batch, 0) + 1
        elif one.modified_s > now_s - older_than_s:
            found.young += 1
        else:
            found.orphans.setdefault(batch if batch is not None else "", []).append(one)
    return found


def collect(
    store: Store, found: Collectable, *, clock: Callable[[], float], tell: Tell
) -> Collected:
    """Remove what ``collectable`` found. Blocking.

    Raises:
        StoreUnusable: something cannot be removed; what was is gone.
    """
    done = Collected()
    total = len(found.all)
    for batch, orphans in sorted(found.orphans.items()):
        held = _while_held(store.blobs, batch, found.epochs.get(batch, 0), clock, done)
        with held as goes_on:
            for number, one in enumerate(orphans):
                if not goes_on(number):
                    break
                store.blobs.remove(one.key)
                done.files += 1
                done.bytes += one.bytes
                tell("files removed", done.files, total)
    return done


@contextmanager
def _while_held(
    blobs: Blobs, batch: str, seen_epoch: int, clock: Callable[[], float], done: Collected
) -> Iterator[Callable[[int], bool]]:
    """Hold a batch as a run does; yields what says whether it is, before each file.

    Not if anybody has had the batch since ``seen_epoch``. What belongs to no batch is free.
    """
    if not batch:
        yield lambda _number: True
        return
    before = _last_word(blobs, batch)
    try:
        epoch = acquire(blobs, batch, now_s=clock()).epoch
    except ClaimHeld as error:
        done.skipped[batch] = str(error)
        yield lambda _number: False
        return

    def goes_on(number: int) -> bool:
        if number % HEARTBEAT_EVERY == 0:
            write_heartbeat(blobs, batch, epoch, alive_s=clock())
            if blobs.size(claim_key(batch, epoch + 1)) is not None:
                done.skipped[batch] = "a run has taken it over"
        return batch not in done.skipped

    if epoch != seen_epoch + 1:
        done.skipped[batch] = "a run has worked on it since its files were listed"
    try:
        yield goes_on
    finally:
        # How the batch stands has not changed by looking after its files.
        told = {"exit_code": 0, **before, "ended_s": clock(), "by": "store gc"}
        write_ended(blobs, batch, epoch, told)


def _last_word(blobs: Blobs, batch: str) -> Mapping[str, Any]:
    """What the last run that ended has said; those after it were collections that were killed."""
    claim = newest_claim(blobs, batch)
    while claim is not None and claim.ended is None:
        claim = read_claim(blobs, batch, claim.epoch - 1)
    return claim.ended if claim is not None and claim.ended is not None else {}
