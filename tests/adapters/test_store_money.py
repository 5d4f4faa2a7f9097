"""Money in the store: parts, bills read later, and jobs and waste that add up to the leases."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.core.budget import lease_cost, rent_usd, traffic_usd
from nightkiln.core.model import (
    AttemptId,
    BatchId,
    Cost,
    Fault,
    Kind,
    Lease,
    LeaseEnd,
    LeaseId,
    Offer,
    Settled,
)
from nightkiln.core.terms import Load
from nightkiln.ports.provider import Charge
from nightkiln.reconciling import WHOLE_AFTER_S, reconcile_charges
from nightkiln.store.charges import write_charge
from nightkiln.store.commit import create_or_same, shard_key
from nightkiln.store.lease_history import Earlier, lease_history
from nightkiln.store.records import LEASES, write_lease_end
from nightkiln.store.rows import parquet_bytes, rows_table
from nightkiln.store.store import Store
from nightkiln.testing.settled import BATCH, done, failed
from tests.asking import ask
from tests.examples import few

CENT = Decimal("0.01")
SUMS = """
    select (select coalesce(sum(usd), 0) from leases),
        (select coalesce(sum(usd - usd_marginal), 0) from jobs),
        (select coalesce(sum(usd), 0) from waste)
"""
# The same money, told by other views; what jobs cost beside their lease is in two of them.
TOLD = """
    select
        (select coalesce(sum(usd_startup + usd_rendering + usd_failed + usd_hedged + usd_idle), 0)
            from waste),
        (select coalesce(sum(usd), 0) from machines),
        (select coalesce(sum(usd), 0) from cost_per_1000),
        (select coalesce(sum(usd), 0) from spend_by_day),
        (select coalesce(sum(usd_marginal), 0) from jobs)
"""
T_S = 1_770_000_000.0  # when the night was
FIRST = LeaseId("night-1-lease-000")
OFFER = Offer("vast", "4711", "RTX 4090", Decimal("0.36"), kind=Kind.ON_DEMAND)


def commit(store: Store, settled: list[Settled], batch: BatchId = BATCH) -> None:
    key = shard_key(batch, 0)
    create_or_same(store.blobs, key, parquet_bytes(rows_table(settled, batch, key)))


def ended(
    lease_id: LeaseId = FIRST,
    usd: str = "0.90",
    busy_s: float = 6.0,
    released_s: float | None = T_S,
) -> LeaseEnd:
    lease, cost = Lease(lease_id, OFFER), Cost(Decimal(usd))
    return LeaseEnd(lease, T_S - 900, T_S - 600, released_s, "no work", 2, 0, busy_s, cost)


def charge(usd: str, lease_id: LeaseId = FIRST) -> Charge:
    return Charge(lease_id, Decimal(usd), Decimal(0), Decimal(0), Decimal(0))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"), create=True)


# The parts.


@given(
    usd=st.decimals(0, 9, places=6),
    disk=st.decimals(0, 1, places=6),
    life_s=st.floats(0, 1e6),
    unbilled=st.tuples(st.floats(0, 2), st.floats(0, 1)),
    jobs=st.integers(0, 10_000),
)
def test_the_parts_of_a_cost_add_up_to_rent_and_traffic(
    usd: Decimal, disk: Decimal, life_s: float, unbilled: tuple[float, float], jobs: int
) -> None:
    loading, billed = unbilled
    offer = replace(
        OFFER,
        usd_per_hour=usd,
        storage_usd_per_hour=disk,
        loading_billed=billed,
        usd_per_gb_in=Decimal("0.013"),
        usd_per_gb_out=Decimal("0.02"),
    )
    load = Load(image_gb=5.5, models_gb=7.0, result_gb=0.0015)

    cost = lease_cost(offer, load, life_s=life_s, loading_s=loading * life_s, jobs=jobs)

    rent = rent_usd(offer, life_s, loading_s=loading * life_s)
    assert cost.usd == rent + traffic_usd(offer, load, jobs)
    assert min(cost.gpu, cost.storage, cost.traffic_in, cost.traffic_out) >= 0
    assert cost.gb_out == pytest.approx(0.0015 * jobs)
    assert float(cost.gpu) == pytest.approx(float(usd) * cost.gpu_s / 3600, abs=2e-6)


def test_the_parts_are_columns(store: Store) -> None:
    cost = Cost(Decimal("0.5"), Decimal("0.1"), Decimal("0.2"), Decimal("0.05"), 500.0, 12.5, 0.25)
    write_lease_end(store.blobs, BATCH, replace(ended(), cost=cost))

    parts = "usd_gpu, usd_storage, usd_in, usd_out, gpu_billed_s, gb_in, gb_out"
    assert ask(store, f"select {parts} from leases") == [  # noqa: S608 - names of ours
        (Decimal("0.5"), Decimal("0.1"), Decimal("0.2"), Decimal("0.05"), 500.0, 12.5, 0.25)
    ]
    assert ask(store, "select usd, usd_estimated, usd_billed from leases") == [
        (Decimal("0.85"), Decimal("0.85"), None)
    ]


# Rows of before.


def test_rows_of_earlier_versions_stay_readable(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"), create=True)
    write_lease_end(store.blobs, BATCH, ended())
    new = {"usd_gpu", "usd_storage", "usd_in", "usd_out", "gpu_billed_s", "gb_in", "gb_out"}
    for path in [path for path in store.root.glob("leases/*/*") if path.is_file()]:
        table = pq.ParquetFile(path).read()
        pq.write_table(table.drop_columns(sorted(new)), path)
    for path in store.root.glob("charges/*/*"):
        path.unlink()
    commit(store, [with_attempts(1, (FIRST, 6.0, "done"))])

    old = "select usd, usd_estimated, usd_billed, usd_gpu, gb_in from leases"
    assert ask(store, old) == [(Decimal("0.90"), Decimal("0.90"), None, None, None)]
    assert ask(store, "select usd - usd_marginal from jobs") == [(Decimal("0.9"),)]
    assert ask(store, "select usd, jobs_usd from waste") == [(Decimal(0), Decimal("0.9"))]

    write_lease_end(store.blobs, BATCH, ended(LeaseId("night-1-lease-001")))
    write_charge(store.blobs, charge("1.25"), provider="vast", date=BATCH.date, read_s=T_S)
    assert ask(store, "select lease_id, usd, usd_gpu from leases order by 1") == [
        (FIRST, Decimal("1.25"), None),
        ("night-1-lease-001", Decimal("0.90"), Decimal("0.90")),
    ]
    assert {name for name, *_ in ask(store, "describe leases")} >= {*LEASES.names, "usd_billed"}


# What was told twice.


def test_what_a_later_run_tells_of_a_lease_replaces_that_nobody_confirmed_it(store: Store) -> None:
    write_lease_end(store.blobs, BATCH, ended(released_s=None))
    later = replace(ended(usd="1.10"), is_late=True)

    write_lease_end(store.blobs, replace(BATCH, epoch=2), later)
    write_lease_end(store.blobs, replace(BATCH, epoch=2), later)

    assert ask(store, "select usd, released_at is null, epoch from leases") == [
        (Decimal("1.10"), False, 2)
    ]


def test_of_two_rows_that_end_a_lease_at_one_moment_the_one_that_knows_more_counts(
    store: Store,
) -> None:
    """A sweep that comes while a run gives a machine back writes of it, too."""
    write_lease_end(store.blobs, BATCH, ended())
    swept = replace(ended(usd="0.80", busy_s=2.0), is_late=True, jobs_done=1)
    write_lease_end(store.blobs, BATCH, swept)

    assert ask(store, "select usd, busy_s, jobs_done from leases") == [(Decimal("0.90"), 6.0, 2)]


def test_jobs_that_were_committed_after_their_lease_was_closed_carry_no_more_than_it_cost(
    store: Store,
) -> None:
    """A run is killed before it commits; a sweep closes its lease; the next run commits."""
    write_lease_end(store.blobs, BATCH, ended(busy_s=0.0))
    commit(store, [with_attempts(1, (FIRST, 4.0, "done")), with_attempts(2, (FIRST, 2.0, "done"))])

    assert ask(store, "select usd - usd_marginal from jobs order by usd desc") == [
        (Decimal("0.6"),),
        (Decimal("0.3"),),
    ]
    assert ask(store, "select usd, jobs_usd, lease from waste") == [
        (Decimal(0), Decimal("0.9"), "worked")
    ]


def test_the_next_run_knows_what_a_lease_has_done(store: Store) -> None:
    commit(store, [with_attempts(1, (FIRST, 4.0, "failed"), (FIRST, 2.5, "done")), failed(2)])
    write_lease_end(store.blobs, BATCH, ended(LeaseId("night-1-lease-001"), busy_s=0.0))
    write_lease_end(store.blobs, BATCH, ended(LeaseId("night-1-lease-002"), released_s=None))

    assert lease_history(store, "night") == {
        FIRST: Earlier(1, 1, 6.5, is_closed=False),
        failed(2).attempts[0].lease_id: Earlier(0, 1, 2.0, is_closed=False),
        LeaseId("night-1-lease-001"): Earlier(is_closed=True),
        LeaseId("night-1-lease-002"): Earlier(is_closed=False),
    }


# Bills.


@dataclass
class Office:
    """A provider whose bills can be read."""

    bills: list[Charge]
    since_s: float | None = None

    async def charges(self, *, since_s: float) -> list[Charge]:
        self.since_s = since_s
        return self.bills


async def test_a_bill_counts_alone_once_it_cannot_grow_any_more(store: Store) -> None:
    write_lease_end(store.blobs, BATCH, ended())
    office = Office([charge("0.50")])

    early = await reconcile_charges(store, "vast", office, now_s=T_S + 60)
    before = ask(store, "select usd, usd_estimated, usd_billed from leases")
    await reconcile_charges(store, "vast", office, now_s=T_S + WHOLE_AFTER_S + 1)
    after = ask(store, "select usd, usd_estimated, usd_billed from leases")

    assert (early.leases, early.billed, early.usd_billed) == (1, 1, Decimal("0.50"))
    assert office.since_s == pytest.approx(T_S - 900)
    assert before == [(Decimal("0.90"), Decimal("0.90"), Decimal("0.50"))]
    assert after == [(Decimal("0.50"), Decimal("0.90"), Decimal("0.50"))]


async def test_a_bill_is_added_when_it_changed_or_is_the_last(store: Store) -> None:
    write_lease_end(store.blobs, BATCH, ended())
    office = Office([charge("0.50")])

    for after_s in (60.0, 120.0, 180.0):
        await reconcile_charges(store, "vast", office, now_s=T_S + after_s)
    office.bills = [charge("0.70")]
    for after_s in (240.0, WHOLE_AFTER_S + 1, WHOLE_AFTER_S + 2):
        await reconcile_charges(store, "vast", office, now_s=T_S + after_s)

    assert len(list(store.root.glob("charges/dt=2*/*"))) == 3
    assert ask(store, "select usd from charges") == [(Decimal("0.70"),)]


async def test_bills_of_others_and_nonsense_are_left_out(store: Store) -> None:
    write_lease_end(store.blobs, BATCH, ended())
    write_lease_end(store.blobs, BATCH, ended(LeaseId("night-1-lease-001")))
    others = [
        charge("5", LeaseId("morning-1-lease-000")),
        charge("NaN"),
        charge("1e9", LeaseId("night-1-lease-001")),
    ]

    read = await reconcile_charges(store, "vast", Office(others), now_s=T_S)

    assert (read.leases, read.billed) == (2, 0)
    assert ask(store, "select count(*) from charges") == [(0,)]


async def test_a_bill_under_a_name_cut_to_fit_finds_its_lease(store: Store) -> None:
    write_lease_end(store.blobs, BATCH, ended())
    cut = LeaseId("ni~176473d7-1-lease-000")  # the first digits of sha256("night")

    await reconcile_charges(store, "vast", Office([charge("2", cut)]), now_s=T_S)

    assert ask(store, "select lease_id, usd from charges") == [(FIRST, Decimal(2))]


# Sums.


def with_attempts(number: int, *tries: tuple[LeaseId, float, str]) -> Settled:
    """A job that was tried so: where, for how many GPU seconds, and how it ended."""
    usual = done(number)
    attempts = tuple(
        replace(
            usual.attempts[0],
            id=AttemptId(f"night-1-{number}-{index}"),
            lease_id=lease_id,
            gpu_s=gpu_s,
            status=how,
            fault=Fault.MACHINE if how == "failed" else None,
        )
        for index, (lease_id, gpu_s, how) in enumerate(tries)
    )
    if any(how == "done" for _, _, how in tries):
        return replace(usual, attempts=attempts)
    return replace(failed(number), attempts=attempts)


@dataclass(frozen=True)
class Night:
    """Leases with their true cost, bill and busy time, and what they were busy with."""

    usd: dict[LeaseId, Decimal]
    billed: dict[LeaseId, tuple[Decimal, float]]
    settled: list[Settled]
    again: list[Settled]  # rendered a second time, by another run
    unsettled_s: dict[LeaseId, float]  # busy with jobs that came to no end
    unseen: set[LeaseId]  # closed by a sweep that saw nothing of what they were busy with

    def told_s(self, lease_id: LeaseId) -> float:
        """Busy time by the lease's own row."""
        return 0.0 if lease_id in self.unseen else self.busy_s(lease_id)

    def busy_s(self, lease_id: LeaseId) -> float:
        tries = [one for job in (*self.settled, *self.again) for one in job.attempts]
        own = sum(one.gpu_s for one in tries if one.lease_id == lease_id)
        return own + self.unsettled_s[lease_id]


@st.composite
def nights(draw: st.DrawFn) -> Night:
    count = draw(st.integers(1, 4))
    ids = [LeaseId(f"night-1-lease-{number:03d}") for number in range(count)]
    money, seconds = st.decimals(0, 50, places=6), st.floats(0.1, 500)
    where = st.tuples(st.sampled_from(ids), seconds, st.sampled_from(["failed", "hedge"]))
    won = st.tuples(st.sampled_from(ids), seconds, st.just("done"))
    jobs, again = [], []
    for number in range(draw(st.integers(0, 8))):
        tries = draw(st.lists(where, max_size=3)) + draw(st.lists(won, max_size=1))
        if tries:
            jobs.append(with_attempts(number, *tries))
            if draw(st.booleans()):
                later = replace(jobs[-1], finished_s=jobs[-1].finished_s + 5.0)
                lost = draw(won)
                again.append(replace(later, attempts=with_attempts(number, lost).attempts))
    bill = st.tuples(money, st.sampled_from([0.0, 2 * WHOLE_AFTER_S]))
    return Night(
        usd={each: draw(money) for each in ids},
        billed=draw(st.dictionaries(st.sampled_from(ids), bill)),
        settled=jobs,
        again=again,
        unsettled_s={each: draw(st.sampled_from([0.0, 33.3])) for each in ids},
        unseen=draw(st.sets(st.sampled_from(ids))),
    )


@pytest.mark.nights
@few(6, of=100)
@given(night=nights())
def test_jobs_and_booked_waste_add_up_to_the_leases_to_the_cent(night: Night) -> None:
    with TemporaryDirectory() as folder:
        store = Store.open(f"{folder}/store", create=True)
        for lease_id, usd in night.usd.items():
            end = ended(lease_id, str(usd), night.told_s(lease_id))
            write_lease_end(store.blobs, BATCH, end)
        for lease_id, (usd, after_s) in night.billed.items():
            bill = charge(str(usd), lease_id)
            write_charge(store.blobs, bill, provider="vast", date=BATCH.date, read_s=T_S + after_s)
        for batch, settled in ((BATCH, night.settled), (replace(BATCH, epoch=2), night.again)):
            if settled:
                commit(store, settled, batch)

        with store.connect() as con:
            [(leases, jobs, waste)] = con.execute(SUMS).fetchall()
            [told] = con.execute(TOLD).fetchall()
            shown = con.execute("select lease_id, gpu_seconds from jobs").fetchall()
            by_lease = dict(con.execute("select lease_id, usd from waste").fetchall())
            counted = dict(con.execute("select lease_id, usd from leases").fetchall())

    assert jobs + waste == leases
    by_clock, machines, per_1000, by_day, marginal = told
    assert by_clock == machines == leases
    assert abs(per_1000 - by_day) < CENT / 100
    assert by_day == leases + marginal
    assert counted == {each: true_usd(night, each) for each in night.usd}
    for lease_id, usd in counted.items():
        paid_s = sum(seconds for one, seconds in shown if one == lease_id)
        busy_s = max(night.told_s(lease_id), paid_s)
        share = 1 - paid_s / busy_s if busy_s else 1.0
        assert abs(float(by_lease[lease_id]) - float(usd) * share) < float(CENT) / 100
        assert by_lease[lease_id] >= -CENT / 100


def true_usd(night: Night, lease_id: LeaseId) -> Decimal:
    """A bill that is whole, else the dearer of a bill and our own count."""
    own = night.usd[lease_id]
    billed, after_s = night.billed.get(lease_id, (own, 0.0))
    return billed if after_s > WHOLE_AFTER_S else max(billed, own)
