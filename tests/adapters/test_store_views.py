"""What DuckDB says about a store: one row per job, money that adds up, strangers' columns."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import permutations
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.cli.query import query
from nightkiln.core.errors import BadInput, StoreConflict, StoreUnusable
from nightkiln.core.model import BatchId, CatalogRow, Cost, Lease, LeaseEnd, LeaseId, Offer, Settled
from nightkiln.store.commit import create_or_same, shard_key
from nightkiln.store.names import check_batch_name
from nightkiln.store.plan_joins import are_there, attach, reused, reused_outputs
from nightkiln.store.processes import Process
from nightkiln.store.quotes import Quoted, Verdict, write_quote
from nightkiln.store.records import (
    BatchEnd,
    BatchStart,
    write_batch_end,
    write_batch_start,
    write_lease_end,
)
from nightkiln.store.rows import parquet_bytes, rows_table
from nightkiln.store.store import MARKER, Store
from nightkiln.store.views import OWN_COLUMNS, VIEWS
from nightkiln.testing.settled import BATCH, done, failed, job, picture
from tests.asking import ask
from tests.examples import few

LATER = replace(BATCH, epoch=2)
ELSEWHERE = replace(BATCH, batch="tomorrow", date="2026-02-01")


def commit(
    store: Store, settled: Sequence[Settled], batch: BatchId = BATCH, number: int = 0
) -> None:
    key = shard_key(batch, number)
    create_or_same(store.blobs, key, parquet_bytes(rows_table(settled, batch, key)))


def begin(
    store: Store,
    batch: BatchId = BATCH,
    *,
    columns: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
) -> BatchStart:
    start = BatchStart(
        batch=batch,
        catalog_digest="c" * 64,
        process=Process("kiln.example", 42, "", ""),
        started_s=1_770_000_000.0 + batch.epoch,
        jobs_total=3,
        version="0",
        columns=columns if columns is not None else {"category": "VARCHAR", "challenge": "BIGINT"},
        params=params if params is not None else {"prompt": "VARCHAR", "steps": "BIGINT"},
    )
    write_batch_start(store.blobs, start)
    return start


def with_columns(settled: Settled, columns: Mapping[str, Any]) -> Settled:
    return replace(settled, job=replace(settled.job, rows=(CatalogRow(0, columns),)))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"), create=True)


@pytest.mark.parametrize("view", VIEWS)
def test_an_empty_store_answers_with_nothing(store: Store, view: str) -> None:
    assert ask(store, f"select count(*) from {view}") == [(0,)]  # noqa: S608 - a name of ours


def test_the_names_that_win_over_a_catalogs_are_those_of_jobs(store: Store) -> None:
    assert {name for name, *_ in ask(store, "describe jobs")} == OWN_COLUMNS


def test_a_job_is_shown_once_done_before_reused_before_failed_then_the_latest(
    store: Store,
) -> None:
    stories = [
        lambda number: failed(number, finished_s=4_000.0),
        lambda number: replace(done(number, finished_s=3_000.0), status="reused"),
        lambda number: done(number, finished_s=1_000.0),
        lambda number: done(number, finished_s=2_000.0),
    ]
    orders = list(permutations(stories))  # each job lives through them in another order
    for epoch in range(1, len(stories) + 1):
        told = [order[epoch - 1](number) for number, order in enumerate(orders)]
        commit(store, told, replace(BATCH, epoch=epoch))

    assert ask(store, "select status, epoch_ms(finished_at), count(*) from jobs group by all") == [
        ("done", 2_000_000, len(orders))
    ]
    assert ask(store, "select count(*) from outputs") == [(len(orders),)]


def test_the_same_job_in_two_batches_is_two_rows(store: Store) -> None:
    commit(store, [done(1)])
    commit(store, [done(1)], ELSEWHERE)

    assert ask(store, "select batch, cast(dt as varchar) from jobs order by 1") == [
        ("night", "2026-01-31"),
        ("tomorrow", "2026-02-01"),
    ]


def test_a_copy_of_a_shard_under_another_name_changes_no_answer(store: Store) -> None:
    commit(store, [done(number) for number in range(5)])
    shutil.copy(store.root / shard_key(BATCH, 0), store.root / "results/dt=2026-01-31/c-0.parquet")

    assert ask(store, "select count(*), count(distinct job_id) from jobs") == [(5, 5)]


def test_jobs_and_waste_add_up_to_what_the_leases_cost(store: Store) -> None:
    tried = failed(1).attempts[0]
    rendered = done(2)
    twice = replace(done(3), attempts=(tried, *done(3).attempts))
    commit(store, [rendered, twice])
    lease = Lease(LeaseId("night-1-lease"), Offer("vast", "4711", usd_per_hour=Decimal("0.4")))
    end = LeaseEnd(lease, 1.0, 2.0, 3.0, "done", 2, 1, busy_s=6.0, cost=Cost(Decimal("0.9")))
    write_lease_end(store.blobs, BATCH, end)

    [(jobs, marginal)] = ask(store, "select sum(usd), sum(usd_marginal) from jobs")
    waste = "select sum(usd) from attempts where status <> 'done'"

    assert jobs - marginal == Decimal("0.6")
    assert ask(store, waste) == [(Decimal("0.3"),)]
    assert ask(store, "select usd from leases") == [(Decimal("0.9"),)]


def test_what_a_job_cost_is_unknown_until_its_lease_is_over_and_nothing_when_reused(
    store: Store,
) -> None:
    commit(store, [done(1), reused(job(2), done(2).outputs, now_s=5.0)])

    assert ask(store, "select status, usd from jobs order by 1") == [("done", None), ("reused", 0)]


def test_a_batch_tells_of_its_latest_run_and_a_run_that_was_killed_has_no_end(store: Store) -> None:
    begin(store)
    write_batch_end(store.blobs, begin(store, LATER), BatchEnd(9.0, 2, 0, 1, 1))

    assert ask(store, "select batch, runs, done, failed, exit_code from batches") == [
        ("night", 2, 2, 1, 1)
    ]
    assert ask(store, "select epoch, ended_at is null, exit_code from runs order by 1") == [
        (1, True, None),
        (2, False, 1),
    ]


QUOTE = Quoted(
    verdict=Verdict.TAKEN,
    made_s=900.0,
    jobs=3,
    budget_usd=Decimal(5),
    deadline_s=5_000.0,
    usd_p50=1.5,
    usd_p90=2.25,
    finish_s_p50=2_000.0,
    finish_s_p90=3_000.0,
    deadline_met_fraction=0.97,
    machines_p50=2.0,
    machines_p90=3.5,
    nights=16,
    jobs_per_lump=1,
    basis="market file",
    market="ordinary",
    market_sha256="f" * 64,
)


def quoted_night(
    store: Store,
    epoch: int,
    *,
    usd: str,
    last_s: float,
    left: int = 0,
    verdict: Verdict = Verdict.TAKEN,
) -> None:
    """A run that begins to rent at 1,000 s, commits its last job at ``last_s``, ends 10 s later."""
    batch = replace(BATCH, epoch=epoch)
    start = begin(store, batch)
    write_quote(store.blobs, batch, replace(QUOTE, verdict=verdict), decided_s=1_000.0)
    for half in range(2):
        name = LeaseId(f"night-{epoch}-{half}")
        lease = Lease(name, Offer("cloud", "4711", usd_per_hour=Decimal("0.4")))
        end = LeaseEnd(lease, 1.0, 2.0, 3.0, "done", 2, 0, busy_s=6.0, cost=Cost(Decimal(usd) / 2))
        write_lease_end(store.blobs, batch, end)
    commit(store, [done(epoch, finished_s=last_s)], batch)
    write_batch_end(store.blobs, start, BatchEnd(last_s + 10.0, 3 - left, 0, 0, 3 if left else 0))


def test_every_quoted_night_is_held_against_its_quote(store: Store) -> None:
    quoted_night(store, 1, usd="1.00", last_s=2_500.0)
    quoted_night(store, 2, usd="2.25", last_s=4_000.0)  # on the line is inside
    quoted_night(store, 3, usd="2.26", last_s=3_999.0)
    quoted_night(store, 4, usd="1.00", last_s=4_001.0)

    assert ask(
        store,
        "select epoch, usd, finish_s, inside_p90_usd, inside_p90_finish, deadline_met "
        "from calibration order by 1",
    ) == [
        (1, Decimal("1.00"), 1_500.0, True, True, True),
        (2, Decimal("2.25"), 3_000.0, True, True, True),
        (3, Decimal("2.26"), 2_999.0, False, True, True),
        (4, Decimal("1.00"), 3_001.0, True, False, True),
    ]
    [(begun, usd_p90, budget, deadline)] = ask(
        store,
        "select epoch(any_value(began_at)), any_value(usd_p90), any_value(budget_usd), "
        "epoch(any_value(deadline_at)) from calibration",
    )
    assert (begun, usd_p90, budget, deadline) == (1_000.0, Decimal("2.25"), 5, 5_000.0)


def test_a_night_that_ended_before_its_jobs_is_outside_or_tells_nothing(store: Store) -> None:
    quoted_night(store, 1, usd="1.00", last_s=1_100.0, left=2)
    quoted_night(store, 2, usd="3.00", last_s=1_100.0, left=2)
    quoted_night(store, 3, usd="1.00", last_s=4_500.0, left=2)

    assert ask(
        store,
        "select jobs_left, inside_p90_usd, inside_p90_finish, deadline_met "
        "from calibration order by epoch",
    ) == [(2, None, None, False), (2, False, None, False), (2, None, False, False)]
    assert ask(
        store,
        "select count(*), count(inside_p90_usd), count(*) filter (inside_p90_usd) from calibration",
    ) == [(3, 1, 0)]


def test_what_was_not_begun_and_what_has_not_ended_is_no_calibration(store: Store) -> None:
    quoted_night(store, 1, usd="0", last_s=1_100.0, verdict=Verdict.REFUSED)
    quoted_night(store, 2, usd="0", last_s=1_100.0, verdict=Verdict.DECLINED)
    begin(store, replace(BATCH, epoch=3))
    write_quote(store.blobs, replace(BATCH, epoch=3), QUOTE, decided_s=1_000.0)
    write_batch_end(
        store.blobs, begin(store, replace(BATCH, epoch=4)), BatchEnd(2e3, 3, 0, 0, 0)
    )  # on workers that cost nothing: never quoted

    assert ask(store, "select verdict from quotes order by epoch") == [
        ("refused",),
        ("declined",),
        ("taken",),
    ]
    assert ask(store, "select * from calibration") == []


def test_a_night_without_a_deadline_has_none_to_meet(store: Store) -> None:
    start = begin(store)
    quote = replace(QUOTE, deadline_s=None, deadline_met_fraction=None)
    write_quote(store.blobs, BATCH, quote, decided_s=1_000.0)
    write_batch_end(store.blobs, start, BatchEnd(2_000.0, 3, 0, 0, 0))

    assert ask(
        store,
        "select usd, finish_s, inside_p90_usd, deadline_at, deadline_met_fraction, deadline_met "
        "from calibration",
    ) == [(0, 1_000.0, True, None, None, None)]


def test_a_store_of_before_has_quotes_with_its_first_one(store: Store) -> None:
    shutil.rmtree(store.root / "quotes")
    store = Store.open(str(store.root))
    assert ask(store, "select count(*) from jobs") == [(0,)]

    write_quote(store.blobs, BATCH, QUOTE, decided_s=1_000.0)

    assert ask(store, "select verdict, usd_p90 from quotes") == [("taken", Decimal("2.25"))]


def test_a_quote_is_written_once(store: Store) -> None:
    write_quote(store.blobs, BATCH, QUOTE, decided_s=1_000.0)
    write_quote(store.blobs, BATCH, QUOTE, decided_s=1_000.0)

    with pytest.raises(StoreConflict):
        write_quote(store.blobs, BATCH, replace(QUOTE, jobs=4), decided_s=1_000.0)


def test_every_view_is_in_the_reference_and_in_the_help_of_query() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "store.md").read_text()
    said = str(query.__doc__)

    assert [view for view in VIEWS if f"| `{view}` |" not in page] == []
    assert [view for view in VIEWS if view not in said] == []


def test_a_catalogs_columns_and_bound_values_are_columns_of_jobs(store: Store) -> None:
    begin(store)
    commit(store, [done(number) for number in range(3)])

    found = ask(store, "select category, sum(challenge), any_value(steps) from jobs group by 1")

    assert found == [("Animals", 3, 20)]
    assert ask(store, "select sum(challenge) from jobs_parti") == [(3,)]


def test_a_name_that_jobs_has_itself_gets_a_prefix(store: Store) -> None:
    begin(
        store,
        columns={"Status": "VARCHAR", "catalog_Status": "VARCHAR"},
        params={"width": "BIGINT"},
    )
    settled = with_columns(done(1), {"Status": "theirs", "catalog_Status": "too"})
    commit(store, [replace(settled, job=replace(settled.job, values={"width": 512}))])

    names = '"status", "catalog_Status", "catalog_catalog_Status", width, param_width'

    assert ask(store, f"select {names} from jobs") == [("done", "theirs", "too", 64, 512)]  # noqa: S608


def test_catalogs_that_disagree_on_a_type_share_a_text(store: Store) -> None:
    other = replace(ELSEWHERE, catalog="numbers")
    begin(store, columns={"level": "VARCHAR"})
    begin(store, other, columns={"level": "BIGINT"})
    commit(store, [with_columns(done(1), {"level": "hard"})])
    commit(store, [with_columns(done(2), {"level": 3})], other)

    assert ask(store, "select level from jobs order by 1") == [("3",), ("hard",)]
    assert ask(store, "select level from jobs_numbers") == [(3,)]


def test_every_catalog_row_has_a_line_with_its_own_columns(store: Store) -> None:
    begin(store)
    rows = (CatalogRow(3, {"category": "Animals"}), CatalogRow(8, {"category": "Arts"}))
    commit(store, [replace(done(1), job=replace(done(1).job, rows=rows))])

    assert ask(store, "select row, category, status from catalog_rows order by 1") == [
        (3, "Animals", "done"),
        (8, "Arts", "done"),
    ]
    assert ask(store, "select row, rows, category from jobs") == [(3, [3, 8], "Animals")]


@pytest.mark.nights
@few(8, of=100)
@given(
    name=st.text(min_size=1, max_size=12)
    | st.sampled_from(['"; drop view jobs; --', "' || 1 || '", "$.a", "/a", "a~1b", "{{where}}"]),
    kind=st.sampled_from(["VARCHAR", "BIGINT); drop view jobs; --", "STRUCT(a INTEGER)", ""]),
)
def test_no_name_and_no_type_in_a_catalog_can_break_the_views(
    tmp_path_factory: pytest.TempPathFactory, name: str, kind: str
) -> None:
    store = Store.open(str(tmp_path_factory.mktemp("store")), create=True)
    begin(store, replace(BATCH, catalog=name), columns={name: kind}, params={name: kind})
    commit(store, [with_columns(done(1), {name: "value"})], replace(BATCH, catalog=name))

    with store.connect() as con:
        columns = [column for column, *_ in con.execute("describe jobs").fetchall()]
        values = con.execute("select * from jobs").fetchall()[0]

    assert set(columns[: len(OWN_COLUMNS)]) == OWN_COLUMNS
    unfolded = dict(zip(columns, values, strict=True))
    shown = {key: value for key, value in unfolded.items() if key not in OWN_COLUMNS}
    assert set(shown.values()) <= {"value", None}
    assert ("value" in shown.values()) == (name.isprintable())


def test_the_views_beside_the_data_answer_in_plain_duckdb(store: Store) -> None:
    begin(store)
    commit(store, [done(1)])
    store.refresh_views()
    asked = "select category, count(*) from jobs group by 1"

    with duckdb.connect(str(store.root / "nightkiln.duckdb"), read_only=True) as con:
        by_file = con.execute(asked).fetchall()
    one_line = (
        "import duckdb; con = duckdb.connect(); con.execute(open('views.sql').read()); "
        f"print(con.sql({asked!r}).fetchall())"
    )
    by_script = subprocess.run(
        [sys.executable, "-c", one_line],
        cwd=store.root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout

    assert by_file == [("Animals", 1)]
    assert by_script.strip() == str(by_file)


def test_views_are_written_anew_when_they_would_differ_and_left_alone_when_not(
    store: Store, tmp_path: Path
) -> None:
    database = store.root / "nightkiln.duckdb"
    store.refresh_views()
    first = database.stat().st_ino
    store.refresh_views()
    unchanged = database.stat().st_ino
    begin(store)
    with duckdb.connect(str(database), read_only=True) as reader:
        store.refresh_views()
        read_by_the_old = reader.execute("select count(*) from jobs").fetchall()
    changed = database.stat().st_ino
    os.rename(store.root, tmp_path / "moved")  # noqa: PTH104 - the store's root is gone after it
    moved = Store.open(str(tmp_path / "moved"))
    moved.refresh_views()

    assert (first, read_by_the_old) == (unchanged, [(0,)])
    assert changed != first
    with duckdb.connect(str(tmp_path / "moved" / "nightkiln.duckdb"), read_only=True) as con:
        assert con.execute("select count(*) from jobs").fetchall() == [(0,)]


@pytest.mark.parametrize("name", ["a[b]c", "with 'quote", "star*", "question?"])
def test_a_store_may_lie_in_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    store = Store.open(str(tmp_path / name), create=True)
    commit(store, [done(1)])

    assert ask(store, "select count(*) from jobs") == [(1,)]


def test_a_plan_sees_what_is_settled_here_and_done_elsewhere(store: Store) -> None:
    commit(store, [failed(1), done(2)])
    commit(store, [done(1)], LATER, 1)
    commit(store, [done(3, finished_s=1.0), failed(4)], ELSEWHERE)
    newest = replace(ELSEWHERE, batch="later")
    commit(store, [done(3, batch=newest, finished_s=2.0)], newest)

    with duckdb.connect() as con:
        attach(con, store, batch="night", date="2026-01-31")
        here = dict(con.execute("select job_id, status from settled_here").fetchall())
        elsewhere = con.sql("from done_elsewhere").to_arrow_table().to_pylist()

    assert here == {job(1).id: "done", job(2).id: "done"}
    [row] = elsewhere
    assert (row["job_id"], row["batch"]) == (job(3).id, "later")
    assert reused_outputs(row) == done(3, batch=newest).outputs


def test_a_result_can_be_reused_only_while_its_files_are_there(store: Store) -> None:
    outputs = done(1).outputs
    before = are_there(store, outputs)
    store.blobs.put(outputs[0].uri, picture(1))
    there = are_there(store, outputs)
    store.blobs.put(outputs[0].uri, b"cut")

    assert (before, there, are_there(store, outputs), are_there(store, ())) == (
        False,
        True,
        False,
        False,
    )


def test_a_batch_keeps_the_date_of_its_first_run(store: Store) -> None:
    begin(store)
    begin(store, replace(BATCH, batch="night-000009", date="2026-01-01"))

    assert store.batch_date("night", today="2026-02-20") == "2026-01-31"
    assert store.batch_date("other", today="2026-02-20") == "2026-02-20"


def test_a_folder_that_is_no_store_is_not_taken_for_one(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="there is no store"):
        Store.open(str(tmp_path))


@pytest.mark.parametrize(
    "uri", ["ftp://host/store", "s3://", "s3://key:secret@bucket/x", "s3://bu_cket"]
)
def test_an_address_that_cannot_be_a_store_is_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(BadInput, match="s3://bucket/prefix") as refused:
        Store.open(uri, create=True)

    assert "secret" not in str(refused.value)


def test_a_store_of_a_newer_version_is_left_alone(store: Store) -> None:
    store.blobs.put(MARKER, b'{"schema_version": 99}')

    with pytest.raises(StoreUnusable, match="upgrade nightkiln"):
        Store.open(str(store.root))


@pytest.mark.parametrize("name", ["", "../x", "a/b", "-x", "a b", "x" * 101])
def test_a_batch_has_a_name_that_files_can_have(name: str) -> None:
    with pytest.raises(BadInput):
        check_batch_name(name)
