"""What a controller that died has come to: nothing is freed before the ledger is sure."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from nightkiln.core.model import BatchId, Cost, Lease, LeaseEnd, LeaseId, Offer
from nightkiln.lease_book import Entry, LeaseBook
from nightkiln.share_ledger import ShareLedger
from nightkiln.store.claims import claim_json, claim_key
from nightkiln.store.processes import Process, this_process
from nightkiln.store.records import write_lease_end
from nightkiln.store.store import Store

BATCH = "night-1of2"
DEAD = replace(this_process(), mark="long ago")
LEASE = LeaseId(f"{BATCH}-1-lease-000")
OFFER = Offer("cloud", "gpu", usd_per_hour=Decimal(1))


class Ground:
    """A store, the book of this computer, and the ledger over both."""

    def __init__(self, folder: Path) -> None:
        self.store = Store.open(str(folder / "store"), create=True)
        self.book = LeaseBook(folder / "state")
        self.ledger = ShareLedger(self.store, self.book)

    def claimed_by(self, process: Process) -> None:
        self.store.blobs.create(claim_key(BATCH, 1), claim_json(process, 0.0))

    def rented(self, lease: LeaseId) -> None:
        self.book.intend(Entry(lease, BATCH, 1, self.store.uri, OFFER, 0.0, 3600.0))

    def ended(self, lease: LeaseId, usd: str) -> None:
        cost = Cost(Decimal(usd), Decimal(0), Decimal(0), Decimal(0))
        end = LeaseEnd(Lease(lease, OFFER), 0.0, 1.0, 60.0, "lost", 1, 0, 1.0, cost)
        batch = BatchId(BATCH, 1, "2026-11-21", "sample", "w", "e")
        write_lease_end(self.store.blobs, batch, end)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def test_one_that_never_had_its_batch_has_spent_nothing(ground: Ground) -> None:
    assert ground.ledger.came_to(BATCH, DEAD) == 0


def test_nobody_knows_what_one_has_rented_that_died_on_another_computer(ground: Ground) -> None:
    elsewhere = replace(DEAD, host="elsewhere")
    ground.claimed_by(elsewhere)

    assert ground.ledger.came_to(BATCH, elsewhere) is None


def test_while_something_of_it_may_be_billed_nobody_knows(ground: Ground) -> None:
    ground.claimed_by(DEAD)
    ground.rented(LEASE)

    assert ground.ledger.came_to(BATCH, DEAD) is None


def test_once_all_its_leases_are_over_it_is_what_they_came_to(ground: Ground) -> None:
    ground.claimed_by(DEAD)
    ground.rented(LEASE)
    ground.ended(LEASE, "0.25")
    ground.ended(LeaseId(f"{BATCH}-1-lease-001"), "0.50")
    ground.ended(LeaseId(f"{BATCH}-2-lease-000"), "4.00")  # of the run after it
    ground.book.forget(LEASE)

    assert ground.ledger.came_to(BATCH, DEAD) == Decimal("0.75")
