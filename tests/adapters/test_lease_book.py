"""The book of leases: what is written down survives, and nothing else is believed."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from errno import ENOSPC
from pathlib import Path

import pytest

from nightkiln.core.errors import StoreUnusable
from nightkiln.core.model import Kind, LeaseId, Offer
from nightkiln.disk import OsDisk
from nightkiln.lease_book import Entry, LeaseBook, Owner, Standing
from nightkiln.testing.disk import SteppedDisk

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


def test_a_damaged_entry_hides_no_other_and_is_told(tmp_path: Path) -> None:
    book = LeaseBook(tmp_path)
    book.intend(FIRST)
    torn = tmp_path / "leases" / "torn.json"
    torn.write_text('{"lease_id": "par')

    assert book.entries() == [FIRST]
    assert book.damaged() == [torn]


def test_what_is_over_stays_over_whenever_other_news_arrives(tmp_path: Path) -> None:
    book = LeaseBook(tmp_path)
    book.intend(FIRST)
    book.ended(FIRST.lease_id, ended_s=8000.0)

    book.rented(FIRST.lease_id, host="late news")
    book.extended(FIRST.lease_id, expires_s=9999.0)
    book.ended(FIRST.lease_id, ended_s=9000.0)

    assert book.entry(FIRST.lease_id) == replace(FIRST, standing=Standing.ENDED, ended_s=8000.0)
    book.forget(FIRST.lease_id)
    book.rented(FIRST.lease_id, host="later still")
    assert book.entries() == []


def test_a_name_that_another_stores_batch_uses_is_refused_until_that_is_over(
    tmp_path: Path,
) -> None:
    book = LeaseBook(tmp_path)
    book.intend(FIRST)
    namesake = replace(FIRST, store="elsewhere")

    with pytest.raises(StoreUnusable, match="give this batch another --name"):
        book.intend(namesake)
    book.ended(FIRST.lease_id, ended_s=2000.0)
    book.intend(namesake)

    assert book.entries() == [namesake]


def test_many_who_write_of_one_lease_at_once_leave_it_whole(tmp_path: Path) -> None:
    LeaseBook(tmp_path).intend(FIRST)

    def write(number: int) -> None:
        book = LeaseBook(tmp_path)  # as every process has its own
        for step in range(10):
            book.extended(FIRST.lease_id, expires_s=5000.0 + number + step)
            assert book.entry(FIRST.lease_id) is not None

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))

    entry = LeaseBook(tmp_path).entry(FIRST.lease_id)
    assert entry is not None
    assert replace(entry, expires_s=FIRST.expires_s) == FIRST
    assert LeaseBook(tmp_path).damaged() == []


@pytest.mark.parametrize("step", ["write", "sync", "replace", "sync_folder"])
def test_a_disk_that_fails_leaves_what_was_there(step: str, tmp_path: Path) -> None:
    LeaseBook(tmp_path).intend(FIRST)

    def full(_: int, name: str) -> None:
        if name.partition(" ")[0] == step:
            raise OSError(ENOSPC, "No space left on device")

    book = LeaseBook(tmp_path, disk=SteppedDisk(OsDisk(), full))
    with pytest.raises(StoreUnusable, match="free some space"):
        book.extended(FIRST.lease_id, expires_s=9000.0)

    entry = LeaseBook(tmp_path).entry(FIRST.lease_id)
    assert entry in {FIRST, replace(FIRST, expires_s=9000.0)}
    LeaseBook(tmp_path).extended(FIRST.lease_id, expires_s=9999.0)  # once there is room again
    assert LeaseBook(tmp_path).damaged() == []


def test_only_its_owner_may_look_into_the_folder_of_the_book(tmp_path: Path) -> None:
    LeaseBook(tmp_path / "state" / "nightkiln").intend(FIRST)

    made = [tmp_path / "state", tmp_path / "state/nightkiln", tmp_path / "state/nightkiln/leases"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o700}


def test_runs_of_one_name_in_two_stores_are_two_runs(tmp_path: Path) -> None:
    book = LeaseBook(tmp_path)
    here, there = Owner("parti", 1, "results", 1000.0), Owner("parti", 1, "elsewhere", 1000.0)

    book.alive(here)
    book.alive(replace(there, has_ended=True))

    assert book.owner("parti", 1, "results") == here
    book.forget_owner(there)
    assert book.owners() == [here]


def test_an_owner_is_as_alive_as_its_last_sign(tmp_path: Path) -> None:
    book = LeaseBook(tmp_path)
    book.alive(Owner("parti", 1, "results", 1000.0))
    book.alive(Owner("parti", 1, "results", 1030.0))

    assert book.owner("parti", 1, "results") == Owner("parti", 1, "results", 1030.0)
    assert book.owners() == [Owner("parti", 1, "results", 1030.0)]
    assert book.owner("parti", 2, "results") is None
