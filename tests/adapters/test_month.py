"""What a month has cost, told by the store, and a night that is kept within the rest of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from nightkiln.core.model import BatchId, Cost, Kind, Lease, LeaseEnd, LeaseId, Offer
from nightkiln.lease_book import Entry, LeaseBook
from nightkiln.month import Ledger, bounds
from nightkiln.ports.provider import Charge
from nightkiln.store.charges import write_charge
from nightkiln.store.claim import acquire
from nightkiln.store.claims import write_ended
from nightkiln.store.processes import this_process
from nightkiln.store.quotes import Quoted, Verdict, write_quote
from nightkiln.store.records import BatchStart, write_batch_start, write_lease_end
from nightkiln.store.store import Store

BERLIN = ZoneInfo("Europe/Berlin")
LIMIT = Decimal(100)
HOUR_S = 3600.0
OFFER = Offer("vast", "4711", "RTX 4090", Decimal("0.36"), kind=Kind.ON_DEMAND)


def at(text: str, zone: ZoneInfo | None = None) -> float:
    """Epoch seconds."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=zone if zone is not None else UTC).timestamp()


NOW_S = at("2026-11-21T22:00")


@dataclass
class Books:
    """A store, the user's book of leases, and whoever reads both."""

    store: Store
    book: LeaseBook
    zone: ZoneInfo = BERLIN
    leases: int = 0

    def month(self, now_s: float = NOW_S, *, but_for: str = "") -> tuple[str, Decimal, Decimal]:
        found = Ledger(self.store, self.book, LIMIT, self.zone).month(now_s, but_for=but_for)
        return found.name, found.spent, found.held

    def cost(
        self, usd: str, begin: str, end: str, *, batch: str = "night", epoch: int = 1
    ) -> LeaseId:
        """A lease that is over."""
        self.leases += 1
        lease_id = LeaseId(f"{batch}-{epoch}-lease-{self.leases:03}")
        told = LeaseEnd(
            lease=Lease(lease_id, OFFER, "machine 7"),
            rented_s=at(begin),
            ready_s=None,
            released_s=at(end),
            reason="no work left",
            jobs_done=1,
            attempts_failed=0,
            busy_s=1.0,
            cost=Cost(gpu=Decimal(usd)),
            is_late=False,
        )
        write_lease_end(self.store.blobs, replace(self.of(batch), epoch=epoch), told)
        return lease_id

    def billed(self, lease_id: LeaseId, usd: str, read: str) -> None:
        none = Decimal(0)
        charge = Charge(lease_id, gpu=Decimal(usd), storage=none, traffic_in=none, traffic_out=none)
        write_charge(self.store.blobs, charge, provider="vast", date="2026-11-21", read_s=at(read))

    def at_work(self, batch: str, budget: str, *, started_s: float) -> None:
        """A run that was let through with a budget, and has not ended."""
        acquire(self.store.blobs, batch, now_s=started_s)
        start = BatchStart(self.of(batch), "c" * 64, this_process(), started_s, 12, "0")
        write_batch_start(self.store.blobs, start)
        self.agreed(batch, 1, budget, made_s=started_s)

    def agreed(
        self,
        batch: str,
        epoch: int,
        budget: str,
        *,
        made_s: float,
        verdict: Verdict = Verdict.TAKEN,
    ) -> None:
        """What became of a run's quote, and with what budget."""
        run = replace(self.of(batch), epoch=epoch)
        quoted = replace(QUOTED, budget_usd=Decimal(budget), made_s=made_s, verdict=verdict)
        write_quote(self.store.blobs, run, quoted, decided_s=made_s)

    def rents(self, batch: str, *, expires_s: float, epoch: int = 1) -> None:
        """A lease in the book that is not over."""
        lease_id = LeaseId(f"{batch}-{epoch}-lease-900")
        asked_s = expires_s - HOUR_S
        entry = Entry(lease_id, batch, epoch, self.store.uri, OFFER, asked_s, expires_s)
        self.book.intend(entry)

    def of(self, batch: str) -> BatchId:
        return BatchId(batch, 1, "2026-11-21", "parti", "w" * 64, "e" * 64)


QUOTED = Quoted(
    verdict=Verdict.TAKEN,
    made_s=NOW_S,
    jobs=12,
    budget_usd=Decimal(10),
    deadline_s=None,
    usd_p50=4.0,
    usd_p90=6.0,
    finish_s_p50=HOUR_S,
    finish_s_p90=HOUR_S,
    deadline_met_fraction=None,
    machines_p50=2.0,
    machines_p90=3.0,
    nights=16,
    jobs_per_lump=1,
    basis="market file",
    market="ordinary",
    market_sha256="m" * 64,
)


@pytest.fixture
def books(tmp_path: Path) -> Books:
    store = Store.open(str(tmp_path / "store"), create=True)
    store.prepare(now_s=NOW_S)
    store.make_durable("2026-11-21")
    return Books(store, LeaseBook(tmp_path / "state"))


def test_all_batches_of_the_month_count_and_other_months_do_not(books: Books) -> None:
    books.cost("1.25", "2026-11-02T01:00", "2026-11-02T02:00")
    books.cost("2.50", "2026-11-20T01:00", "2026-11-20T02:00", batch="other")
    books.cost("9.00", "2026-10-31T01:00", "2026-10-31T02:00")
    books.cost("9.00", "2026-12-01T01:00", "2026-12-01T02:00")

    assert books.month() == ("2026-11", Decimal("3.75"), Decimal(0))
    assert books.month(at("2026-12-24T00:00"))[:2] == ("2026-12", Decimal(9))


def test_a_month_begins_where_the_users_clock_says(books: Books) -> None:
    """At 23:30 UTC on the last of October it is November in Berlin."""
    books.cost("1.00", "2026-10-31T23:30", "2026-10-31T23:45")

    assert books.month()[1] == Decimal(1)
    books.zone = ZoneInfo("UTC")
    assert books.month()[1] == Decimal(0)


def test_a_lease_over_the_edge_of_a_month_counts_by_its_time_inside(books: Books) -> None:
    books.zone = ZoneInfo("UTC")
    books.cost("4.00", "2026-10-31T21:00", "2026-11-01T01:00")

    assert books.month()[1] == Decimal(1)
    assert books.month(at("2026-10-31T23:00"))[1] == Decimal(3)


def test_a_bill_that_is_known_counts_instead_of_our_own_estimate(books: Books) -> None:
    lease_id = books.cost("5.00", "2026-11-20T01:00", "2026-11-20T02:00")
    books.billed(lease_id, "4.20", "2026-11-20T08:00")

    assert books.month()[1] == Decimal("4.20")


def test_a_run_at_work_keeps_its_whole_budget_from_others_and_not_from_itself(
    books: Books,
) -> None:
    books.at_work("tonight", "10.00", started_s=NOW_S - 30.0)
    books.cost("1.50", "2026-11-21T21:59", "2026-11-21T21:59:30", batch="tonight")
    books.rents("tonight", expires_s=NOW_S + HOUR_S)  # out of the same budget

    assert books.month() == ("2026-11", Decimal("1.50"), Decimal("8.50"))
    assert books.month(but_for="tonight") == ("2026-11", Decimal("1.50"), Decimal(0))


def test_a_run_that_has_ended_keeps_nothing(books: Books) -> None:
    books.at_work("tonight", "10.00", started_s=NOW_S - 30.0)
    write_ended(books.store.blobs, "tonight", 1, {"exit_code": 3})

    assert books.month()[2] == Decimal(0)


def test_of_a_run_that_died_only_what_it_still_rents_is_kept(books: Books) -> None:
    books.at_work("dead", "10.00", started_s=NOW_S - 2 * HOUR_S)  # no heartbeat since
    books.rents("dead", expires_s=NOW_S + HOUR_S / 2)

    assert books.month()[2] == Decimal("0.36")  # an hour of it


def test_a_store_that_was_never_quoted_in_has_spent_nothing(books: Books) -> None:
    assert books.month() == ("2026-11", Decimal(0), Decimal(0))


@pytest.mark.parametrize(
    ("now", "begin", "end"),
    [
        ("2026-11-21T22:00", "2026-11-01T00:00+01:00", "2026-12-01T00:00+01:00"),
        ("2026-12-31T22:59", "2026-12-01T00:00+01:00", "2027-01-01T00:00+01:00"),
        ("2026-03-31T12:00", "2026-03-01T00:00+01:00", "2026-04-01T00:00+02:00"),
    ],
)
def test_a_month_has_its_days_also_where_the_clocks_change(now: str, begin: str, end: str) -> None:
    found = bounds(datetime.fromtimestamp(at(now), BERLIN))

    assert found == (datetime.fromisoformat(begin), datetime.fromisoformat(end))
