"""What a controller that died has spent, as far as the ledger knows by now."""

from __future__ import annotations

from dataclasses import dataclass

from nightkiln.core.lease_ids import lease_id
from nightkiln.core.model import Usd
from nightkiln.core.sharing import NOTHING
from nightkiln.lease_book import Entry, LeaseBook
from nightkiln.store.claims import newest_claim, read_claim
from nightkiln.store.processes import Process, this_process
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
        epoch = self._epoch(batch, process)
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

    def _epoch(self, batch: str, process: Process) -> int | None:
        newest = newest_claim(self.store.blobs, batch)
        for epoch in range(newest.epoch if newest is not None else 0, 0, -1):
            claim = read_claim(self.store.blobs, batch, epoch)
            if claim is not None and claim.owner == process:
                return epoch
        return None

    def _entries(self, batch: str) -> list[Entry]:
        return [each for each in self.book.entries(batch) if each.whose == (batch, self.store.uri)]
