"""What a controller that died has spent, as far as the ledger knows by now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from nightkiln.core.lease_ids import lease_id
from nightkiln.core.model import Usd
from nightkiln.core.sharing import NOTHING
from nightkiln.lease_book import Entry, LeaseBook
from nightkiln.ports.blobs import Blobs
from nightkiln.store.claims import newest_claim, read_claim
from nightkiln.store.processes import Process, this_process
from nightkiln.store.shares import found_split, open_round, taken_by, tickets
from nightkiln.store.store import Store

_SPENT = "select coalesce(sum(usd), 0) from leases where batch = ? and starts_with(lease_id, ?)"


@dataclass(frozen=True, slots=True)
class ShareLedger:
    """The rows of leases in the store, and the book of this computer."""

    store: Store
    book: LeaseBook

    def came_to(self, batch: str, process: Process) -> Usd | None:
        """USD that a dead run of ``batch`` came to; None: nobody can tell yet. Blocking.

        The book is of one computer: of a run that died on another one nobody knows what it rented
        in its last moments, so what it might have spent stays set aside.

        Raises:
            StoreUnusable: the book or the store cannot be read.
        """
        epoch = next(_epochs(self.store.blobs, batch, process), None)
        if epoch is None:
            return NOTHING  # it died before it had the batch, so it can have rented nothing
        if process.host != this_process().host:
            return None
        if any(each.epoch == epoch for each in self._entries(batch)):
            return None  # something may still be billed
        label = lease_id(f"{batch}-{epoch}", 0).removesuffix("000")
        with self.store.connect("leases") as con:
            ((usd,),) = con.execute(_SPENT, [batch, label]).fetchall()
        return Usd(usd)

    def _entries(self, batch: str) -> list[Entry]:
        return [each for each in self.book.entries(batch) if each.whose == (batch, self.store.uri)]


def runs_of_open_round(blobs: Blobs, night: str) -> frozenset[str]:
    """Runs, ``<batch>-<epoch>``, whose money a night counts when it goes on. Blocking.

    Empty: no round of it is open, so that it would begin a new one, with nothing spent.

    Raises:
        StoreUnusable: what controllers were told cannot be read.
    """
    split = found_split(blobs, night)
    if split is None:
        return frozenset()
    given_out = tickets(blobs, night, open_round(blobs, night), split)
    return frozenset(
        f"{ticket.share.batch}-{epoch}"
        for ticket in chain.from_iterable(given_out)
        if (process := taken_by(blobs, ticket)) is not None
        for epoch in _epochs(blobs, ticket.share.batch, process)
    )


def _epochs(blobs: Blobs, batch: str, process: Process) -> Iterator[int]:
    """Of a batch's runs in this process, the newest first."""
    newest = newest_claim(blobs, batch)
    for epoch in range(newest.epoch if newest is not None else 0, 0, -1):
        claim = read_claim(blobs, batch, epoch)
        if claim is not None and claim.owner == process:
            yield epoch
