"""What is known here of a run that crashed: its batch, its deadline, and what it has cost."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from nightkiln.core.sharing import Share, share_batch
from nightkiln.lease_book import LeaseBook
from nightkiln.ports.blobs import Blobs
from nightkiln.resuming import Traces, traces
from nightkiln.settings import load_settings
from nightkiln.store.claims import claim_json, claim_key
from nightkiln.store.processes import Process, this_process
from nightkiln.store.quotes import Verdict
from nightkiln.store.shares import Orders, Ticket, close_round, order, split_into, take
from nightkiln.store.store import Store
from nightkiln.testing.samples import write_catalog
from nightkiln.wiring import Request, chosen_catalog
from tests.adapters.test_month import Books, at

BEGAN_S = at("2026-11-21T02:15")
NOW_S = at("2026-11-21T03:00")
NIGHT = "sample-2026-11-21"
DAY_S = 24 * 3600.0
ONE_EACH = tuple(replace(this_process(), mark=mark) for mark in ("long ago", "lately"))


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(Store.open(str(tmp_path / "store"), create=True), LeaseBook(tmp_path / "state"))


def seen(
    tmp_path: Path, *, began_s: float = BEGAN_S, is_shared: bool = False, **flags: str
) -> Traces:
    """Of a nightly that began then."""
    folder = tmp_path / "sample"
    if not folder.exists():
        write_catalog(folder, 2)
    settings = load_settings(
        store=str(tmp_path / "store"), state=str(tmp_path / "state"), timezone="UTC", **flags
    )
    catalog = chosen_catalog(folder, settings=settings)
    request = Request(catalog, is_nightly=True)
    return traces(request, settings, began_s=began_s, now_s=NOW_S, is_shared=is_shared)


def test_a_night_is_that_of_the_date_when_it_began_and_its_deadline_too(tmp_path: Path) -> None:
    evening_s = at("2026-11-20T23:50")

    found = seen(tmp_path, began_s=evening_s, by="02:00")

    assert found.batch == "sample-2026-11-20"
    assert found.by_s is not None
    assert datetime.fromtimestamp(found.by_s, UTC) == datetime(2026, 11, 21, 2, tzinfo=UTC)
    assert found.at_work == ""
    assert found.spent == 0


def test_what_it_has_cost_is_what_its_leases_did_with_those_that_are_still_there(
    tmp_path: Path, books: Books
) -> None:
    books.cost("1.00", "2026-11-21T02:20", "2026-11-21T02:40", batch=NIGHT)
    books.cost("0.50", "2026-11-21T02:20", "2026-11-21T02:40", batch=f"{NIGHT}-1of2")
    books.cost("7.00", "2026-11-21T02:20", "2026-11-21T02:40", batch=f"{NIGHT}-again")
    books.cost("9.00", "2026-11-20T02:20", "2026-11-20T02:40", batch=NIGHT)
    assert seen(tmp_path).spent == Decimal("1.50")

    books.rents(NIGHT, expires_s=NOW_S)  # since an hour, for 0.36 an hour

    assert seen(tmp_path).spent == pytest.approx(Decimal("1.86"), abs=Decimal("0.05"))


def test_money_of_the_open_round_is_told_apart_from_that_of_closed_ones(
    tmp_path: Path, books: Books
) -> None:
    blobs = books.store.blobs
    for number, dead in enumerate(ONE_EACH, start=1):
        gave_out(blobs, number, dead)
        if number == 1:
            close_round(blobs, NIGHT, number)
    share = share_batch(NIGHT, 1, 2)
    books.cost("1.00", "2026-11-21T02:20", "2026-11-21T02:40", batch=share, epoch=1)
    books.cost("2.00", "2026-11-21T02:40", "2026-11-21T02:50", batch=share, epoch=2)
    books.rents(share, expires_s=NOW_S, epoch=2)  # since an hour, for 0.36 an hour

    found = seen(tmp_path, is_shared=True)

    assert found.spent == pytest.approx(Decimal("3.36"), abs=Decimal("0.05"))
    assert found.spent - found.recounted == Decimal("1.00")
    assert seen(tmp_path).recounted == 0, "one controller alone counts nothing of rounds"
    close_round(blobs, NIGHT, 2)
    assert seen(tmp_path, is_shared=True).recounted == 0, "the next round counts nothing of it"


def gave_out(blobs: Blobs, number: int, dead: Process) -> None:
    """The first share of a night of two was begun in this round, and its run has died."""
    split = split_into(blobs, NIGHT, wanted=2)
    ticket = Ticket(Share(NIGHT, 1, 2), number, 1, split.mark)
    order(blobs, ticket, Orders(1, Decimal(6)))
    take(blobs, ticket, dead)
    blobs.create(claim_key(ticket.share.batch, number), claim_json(dead, BEGAN_S))


def test_what_it_was_let_through_with_is_what_was_agreed_to_last_since_it_began(
    tmp_path: Path, books: Books
) -> None:
    assert seen(tmp_path).agreed is None, "nothing was ever quoted in this store"
    books.agreed(NIGHT, 1, "9.00", made_s=BEGAN_S - DAY_S)
    assert seen(tmp_path).agreed is None, "that was another run's"

    books.agreed(NIGHT, 2, "12.00", made_s=BEGAN_S + 60.0)
    books.agreed(NIGHT, 3, "5.005", made_s=BEGAN_S + 600.0)
    books.agreed(NIGHT, 4, "8.00", made_s=BEGAN_S + 900.0, verdict=Verdict.DECLINED)
    books.agreed(f"{NIGHT}-again", 5, "7.00", made_s=BEGAN_S + 900.0)

    assert seen(tmp_path).agreed == Decimal("5.00")


def test_a_living_run_of_the_batch_is_seen(tmp_path: Path, books: Books) -> None:
    books.at_work(NIGHT, "5", started_s=NOW_S)

    assert "since" in seen(tmp_path).at_work
