"""The book of leases: what is written down survives, and nothing else is believed."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from nightkiln.core.model import Kind, LeaseId, Offer
from nightkiln.lease_book import Entry, LeaseBook, Owner, Standing

CHEAP = Offer("vast", "4711", "RTX 4090", Decimal("0.31"), kind=Kind.INTERRUPTIBLE)
FIRST = Entry(LeaseId("parti-1-lease-001"), "parti", 1, "results", CHEAP, 1000.0, 4600.0)


def test_what_is_intended_is_known_to_the_next_process(tmp_path: Path) -> None:
    LeaseBook(tmp_path / "state").intend(FIRST)

    assert LeaseBook(tmp_path / "state").entries() == [FIRST]


def test_a_lease_goes_from_intended_over_rented_to_ended(tmp_path: Path) -> None:
    book = LeaseBook(tmp_path)
    book.intend(FIRST)

    book.rented(FIRST.lease_id, host="machine 7")
    book.extended(FIRST.lease_id, expires_s=9000.0)
    book.ended(FIRST.lease_id, ended_s=8000.0)

    expected = replace(
        FIRST, standing=Standing.ENDED, host="machine 7", expires_s=9000.0, ended_s=8000.0
    )
    assert book.entry(FIRST.lease_id) == expected


def test_a_batch_sees_its_own_leases_only(tmp_path: Path) -> None:
    book = LeaseBook(tmp_path)
    other = replace(FIRST, lease_id=LeaseId("demo-1-lease-001"), batch="demo")
    book.intend(FIRST)
    book.intend(other)

    assert book.entries("demo") == [other]
    assert len(book.entries()) == 2


def test_a_forgotten_lease_is_gone_and_may_be_forgotten_again(tmp_path: Path) -> None:
    book = LeaseBook(tmp_path)
    book.intend(FIRST)

    book.forget(FIRST.lease_id)
    book.forget(FIRST.lease_id)

    assert book.entry(FIRST.lease_id) is None


def test_a_damaged_entry_hides_no_other(tmp_path: Path) -> None:
    book = LeaseBook(tmp_path)
    book.intend(FIRST)
    (tmp_path / "leases" / "torn.json").write_text('{"lease_id": "par')

    assert book.entries() == [FIRST]


def test_an_owner_is_as_alive_as_its_last_sign(tmp_path: Path) -> None:
    book = LeaseBook(tmp_path)
    book.alive(Owner("parti", 1, 1000.0))
    book.alive(Owner("parti", 1, 1030.0))

    assert book.owner("parti", 1) == Owner("parti", 1, 1030.0)
    assert book.owners() == [Owner("parti", 1, 1030.0)]
    assert book.owner("parti", 2) is None
