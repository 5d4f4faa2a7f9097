"""Compaction: nobody sees a job twice or not at all, whenever it is stopped."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.core.model import BatchId, Settled
from nightkiln.store.audit import unnamed_compact_files
from nightkiln.store.commit import create_or_same, shard_key
from nightkiln.store.compacting import Compacted, compact
from nightkiln.store.folding import folding
from nightkiln.store.manifest import (
    CompactFile,
    Folded,
    Manifest,
    Shape,
    create_manifest,
    newest_manifest,
)
from nightkiln.store.plan_joins import attach
from nightkiln.store.rows import parquet_bytes, rows_table
from nightkiln.store.settled_sql import KINDS, numbered_sql, settled_sql
from nightkiln.store.store import Store
from nightkiln.store.writing import SHAPE_ROWS_MIN
from nightkiln.testing.settled import BATCH, done, failed, job
from tests.adapters.dying import died
from tests.examples import few

TOMORROW = replace(BATCH, batch="tomorrow", date="2026-02-01")
NOW_S = 2e9  # later than any file is old
STEPS_MAX = 80
READERS, ROUNDS = 2, 4
COMPACTORS = 3
RUNS = 45
ASKED = (
    "select job_id, batch, status, finished_at, uri, usd, dt from jobs order by all",
    "select count(*), sum(bytes) from outputs",
    "select attempt_id, status, usd from attempts order by all",
    "select count(*) from catalog_rows",
    "select lease_id, busy_s from leases order by all",
    *(f"from {answer} order by all" for answer in ("cost_per_1000", "failures", "duplicates")),
)


def commit(
    store: Store, settled: Sequence[Settled], batch: BatchId = BATCH, number: int = 0
) -> None:
    key = shard_key(batch, number)
    create_or_same(store.blobs, key, parquet_bytes(rows_table(settled, batch, key)))


def compacted(store: Store, *, grace_s: float = 1e12) -> Compacted:
    return compact(store, now_s=NOW_S, grace_s=grace_s, tell=lambda _read, _total: None)


def answers(con: duckdb.DuckDBPyConnection) -> list[list[tuple[Any, ...]]]:
    return [con.execute(sql).fetchall() for sql in ASKED]


def seen(store: Store) -> list[list[tuple[Any, ...]]]:
    """What nightkiln sees, once it is certain that plain DuckDB sees the same."""
    with store.connect() as con:
        ours = answers(con)
    with duckdb.connect(str(store.root / "nightkiln.duckdb"), read_only=True) as con:
        theirs = answers(con)
    assert ours == theirs
    return ours


def asked(store: Store, sql: str) -> list[tuple[Any, ...]]:
    with store.connect() as con:
        return con.execute(sql).fetchall()


def with_outputs(count: int, number: int, **given: Any) -> Settled:
    """Job ``number`` with so many outputs, all alike."""
    made = done(number, **given)
    [output] = made.outputs
    return replace(made, outputs=tuple(replace(output, index=at) for at in range(count)))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two nights; in the first, a job failed and was done later, and one was done twice."""
    made = Store.open(str(tmp_path / "store"), create=True)
    commit(made, [done(1), failed(2), done(3)])
    commit(made, [done(4)], number=1)
    commit(made, [done(2, finished_s=1.8e9), failed(3)], replace(BATCH, epoch=2))
    commit(made, [done(1, batch=TOMORROW), done(9, batch=TOMORROW)], TOMORROW)
    made.refresh_views()
    return made


def test_a_compacted_store_answers_as_it_did_before(store: Store) -> None:
    before = seen(store)

    made = compacted(store)

    assert (made.manifest, made.shards, made.files, made.rows, made.rows_lost) == (1, 4, 2, 6, 2)
    assert seen(store) == before


def test_one_that_has_nothing_to_do_changes_nothing(store: Store) -> None:
    compacted(store)

    again = compacted(store)

    assert (again.manifest, again.shards) == (1, 0)
    assert newest_manifest(store.blobs).number == 1


def test_what_is_replaced_is_removed_after_a_grace_and_nobody_notices(store: Store) -> None:
    before = seen(store)
    compacted(store)
    kept = list(store.blobs.list("results/dt=2"))

    removed = compacted(store, grace_s=0).removed

    assert (len(kept), removed) == (4, 4)
    assert list(store.blobs.list("results/dt=2")) == []
    assert seen(store) == before


@pytest.mark.nights
def test_rows_committed_later_win_or_lose_against_compacted_ones(store: Store) -> None:
    compacted(store, grace_s=0)
    third = replace(BATCH, epoch=3)

    commit(store, [done(3, finished_s=1.9e9), failed(1), done(7)], third)

    with store.connect() as con:
        found = dict(
            con.execute(
                "select job_id, epoch_ms(finished_at) from jobs where batch = 'night'"
            ).fetchall()
        )
    assert found == {
        job(1).id: 1_770_000_000_000,
        job(2).id: 1_800_000_000_000,
        job(3).id: 1_900_000_000_000,
        job(4).id: 1_770_000_000_000,
        job(7).id: 1_770_000_000_000,
    }
    before = seen(store)
    made = compacted(store)
    assert (made.rows, made.rows_lost) == (5, 2)  # of the first night's file, written again
    assert seen(store) == before
    assert compacted(store, grace_s=0).removed == 2
    assert seen(store) == before


@pytest.mark.nights
def test_rows_with_as_many_outputs_and_attempts_get_files_that_say_so(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"), create=True)
    many = [done(number) for number in range(SHAPE_ROWS_MIN)]
    rare = [failed(-1), with_outputs(2, -2), with_outputs(9, -3), replace(done(-4), attempts=())]
    commit(store, [*rare, *many])
    store.refresh_views()
    before = seen(store)

    compacted(store)

    files = {one.shape: one.rows for one in newest_manifest(store.blobs).files}
    assert files == {Shape(1, 1): len(many), None: len(rare)}
    assert seen(store) == before
    second = replace(BATCH, epoch=2)
    won = [with_outputs(2, 5, finished_s=1.8e9), done(-1)]
    lost = [failed(6, finished_s=1.8e9), done(-2, finished_s=1.0)]
    commit(store, [*won, *lost], second)
    before = seen(store)
    [(outputs,)] = asked(store, "select count(*) from outputs")
    assert outputs == len(many) + 1 + 2 + 9 + 1 + 1  # job 5 has a second one, job -1 its first
    compacted(store)
    assert seen(store) == before


def test_days_of_one_shape_are_in_files_that_say_so_however_few_rows_they_have(
    store: Store,
) -> None:
    commit(store, [with_outputs(2, 21, batch=TOMORROW)], TOMORROW, number=1)
    before = seen(store)

    compacted(store)

    shapes = {one.day: one.shape for one in newest_manifest(store.blobs).files}
    assert shapes == {"2026-01-31": Shape(1, 1), "2026-02-01": None}
    assert seen(store) == before


def test_lists_of_files_that_say_so_are_not_taken_apart(store: Store) -> None:
    commit(store, [failed(21, batch=TOMORROW)], TOMORROW, number=1)
    compacted(store)
    manifest = newest_manifest(store.blobs)
    told, mixed = (one.key for one in manifest.files)

    for kind in KINDS:
        sql = numbered_sql("", manifest, kind)
        apart, whole = sql.split(", (values (1))")[0].rsplit("union all by name", 1)

        assert told in whole
        assert mixed in apart
        assert "unnest" not in whole


def test_a_plan_sees_compacted_rows(store: Store) -> None:
    compacted(store, grace_s=0)
    compacted(store, grace_s=0)

    with duckdb.connect() as con:
        attach(con, store, batch="tomorrow", date="2026-02-01")
        here = con.execute("select job_id from settled_here").fetchall()
        elsewhere = con.execute("select job_id from done_elsewhere").fetchall()

    assert {one for (one,) in here} == {job(1).id, job(9).id}
    assert {one for (one,) in elsewhere} == {job(number).id for number in (1, 2, 3, 4)}


@pytest.mark.nights
def test_of_two_compactions_one_is_void(store: Store) -> None:
    before = seen(store)
    wanted = folding(store)
    assert create_manifest(store.blobs, Manifest(number=1, made_s=0.0))  # somebody was faster

    from nightkiln.store.compacting import _folded

    late = _folded(store, wanted, now_s=NOW_S, tell=lambda _read, _total: None)

    assert late.was_late
    assert list(store.blobs.list("compact/")) == []
    assert seen(store) == before


@pytest.mark.nights
def test_a_gap_in_a_runs_shards_is_left_for_later(store: Store) -> None:
    commit(store, [done(11)], number=3)  # number 2 was being committed while this was listed

    compacted(store)
    before = seen(store)
    commit(store, [done(12)], number=2)

    assert len(seen(store)[0]) == len(before[0]) + 1
    assert compacted(store).shards == 2


@pytest.mark.nights
def test_views_written_by_somebody_slow_are_written_again_and_the_grace_begins_anew(
    store: Store,
) -> None:
    old = store.blobs.get("views.sql")
    compacted(store)
    before = seen(store)
    store.blobs.put("views.sql", old)

    assert compact(store, now_s=0.0, grace_s=60.0, tell=lambda _r, _t: None).removed == 0
    assert seen(store) == before
    assert b"-- manifest 1:" in store.blobs.get("views.sql")


@pytest.mark.nights
def test_whoever_reads_while_batches_commit_and_are_compacted_sees_every_job_once(
    store: Store,
) -> None:
    committed, seen_by = [5], list[tuple[int, int, int, int]]()
    is_over = threading.Event()
    asked = "select count(*), count(distinct (batch, job_id)) from _settled"

    def read() -> None:
        while not is_over.is_set():
            least = committed[0]
            with reader(store) as con:
                for _ in range(3):  # with the same views, while others replace what they name
                    [(rows_shown, jobs_shown)] = con.execute(asked).fetchall()
                    seen_by.append((least, rows_shown, jobs_shown, committed[0]))

    with reader(store) as con:
        [(committed[0], _)] = con.execute(asked).fetchall()
    with ThreadPoolExecutor(READERS) as readers:
        reading = [readers.submit(read) for _ in range(READERS)]
        try:
            for number in range(ROUNDS):
                commit(store, [done(100 + number), failed(1)], replace(BATCH, epoch=3), number)
                committed[0] += 1  # the failure loses against what is done
                compacted(store)
        finally:
            is_over.set()
        for one in reading:
            one.result()

    assert len(seen_by) >= READERS
    wrong = [one for one in seen_by if not one[0] <= one[1] == one[2] <= one[3] + 1]
    assert wrong == []


@pytest.mark.nights
def test_several_compactions_at_once_while_a_batch_commits_leave_every_job_once(
    store: Store,
) -> None:
    is_over = threading.Event()
    barrier = threading.Barrier(COMPACTORS)

    def compact_again_and_again() -> list[Compacted]:
        mine, made = Store.open(store.uri), list[Compacted]()
        barrier.wait()
        while not made or not is_over.is_set():
            made.append(compacted(mine))
        return made

    with ThreadPoolExecutor(COMPACTORS) as threads:
        working = [threads.submit(compact_again_and_again) for _ in range(COMPACTORS)]
        try:
            for number in range(ROUNDS):
                commit(store, [done(200 + number), failed(1)], replace(BATCH, epoch=3), number)
        finally:
            is_over.set()
        made = [one for each in working for one in each.result()]

    compacted(store)
    found = seen(store)[0]
    folded = [one.manifest for one in made if one.shards]
    assert len(folded) == len(set(folded)), "two compactions under one number"
    assert len(found) == 6 + ROUNDS
    assert len({(job_id, batch) for job_id, batch, *_ in found}) == len(found)
    assert unnamed_compact_files(store.blobs) == set(), "who was late has cleared up"


def reader(store: Store) -> duckdb.DuckDBPyConnection:
    """Somebody who looks at the rows that count; keeps looking at what it was told first."""
    con = duckdb.connect()
    con.execute(store.settled_sql())
    return con


def rows(con: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
    sql = "select job_id, batch, dt, status, finished_at, out_uri from _settled order by all"
    return con.execute(sql).fetchall()


def broken_by_dying_at(folder: Path, step: int, *, how: str, before: list[Any]) -> list[str]:
    """What somebody who reads sees wrong; None of it once ``step`` is behind the last one."""
    with reader(Store.open(str(folder))) as old:
        was_reached = died(folder, step, partial(compacted, grace_s=1e12), how=how)
        found = ["old views"] if rows(old) != before else []
    after = Store.open(str(folder))
    with reader(after) as new:
        found += ["new views"] if rows(new) != before else []
    died(
        folder, step, partial(compacted, grace_s=0), how=how
    )  # the next one dies as late, removing
    with reader(after) as new:
        found += ["views after removing"] if rows(new) != before else []
    compacted(after, grace_s=0)
    with reader(after) as new:
        found += ["in the end"] if rows(new) != before else []
    found += [f"{key} is left" for key in after.blobs.list("results/dt=2")]
    if b"-- manifest 2:" not in after.blobs.get("views.sql"):
        found.append("the written views are old")
    return found if was_reached else [*found, "END"]


@pytest.mark.parametrize(
    ("how", "every"),
    [
        pytest.param("killed", 9, marks=pytest.mark.nights),
        *(
            pytest.param(how, 1, marks=pytest.mark.long)
            for how in ("killed", "power cut", "disk full")
        ),
    ],
)
def test_one_that_dies_at_any_step_changes_no_answer_and_the_next_one_ends_its_work(
    store: Store, tmp_path: Path, *, how: str, every: int
) -> None:
    compacted(store)
    commit(store, [done(3, finished_s=1.9e9), failed(1), done(7)], replace(BATCH, epoch=3))
    with reader(store) as con:
        before = rows(con)
    for step in range(1, STEPS_MAX, every):
        folder = tmp_path / f"step-{step}"
        shutil.copytree(store.root, folder)
        found = broken_by_dying_at(folder, step, how=how, before=before)
        if found == ["END"]:
            break
        assert found == [], step
        shutil.rmtree(folder)
    assert 15 < step < STEPS_MAX - every, "fewer steps than a compaction has, or no end"


@pytest.mark.nights
def test_a_real_process_that_is_killed_leaves_as_much(store: Store, tmp_path: Path) -> None:
    with reader(store) as con:
        before = rows(con)
    for step in range(2, STEPS_MAX, 6):
        folder = tmp_path / f"step-{step}"
        shutil.copytree(store.root, folder)
        done_ = subprocess.run(
            [sys.executable, "-m", "nightkiln", "store", "compact", "--store", str(folder)],
            env={**os.environ, "NIGHTKILN_DISK": f"kill={step}"},
            check=False,
            capture_output=True,
        )
        after = Store.open(str(folder))
        with reader(after) as con:
            assert rows(con) == before, step
        compacted(after, grace_s=0)
        with reader(after) as con:
            assert rows(con) == before, step
        if done_.returncode == 0:
            break
        assert done_.returncode == -signal.SIGKILL, done_.stderr
    assert step > 10, "it was never killed"


@pytest.mark.nights
@few(4, of=80)
@given(
    story=st.lists(
        st.one_of(
            st.tuples(
                st.lists(
                    st.tuples(st.integers(0, 5), st.sampled_from("dfr"), st.integers(1, 3)),
                    min_size=1,
                    max_size=4,
                    unique_by=lambda one: one[0],
                ),
                st.booleans(),
            ),
            st.sampled_from(["compact", "clear"]),
        ),
        max_size=8,
    )
)
def test_whatever_was_committed_and_compacted_in_whatever_order_the_answer_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, story: list[Any]
) -> None:
    stores = [Store.open(str(tmp_path_factory.mktemp("s")), create=True) for _ in range(2)]
    numbers = {BATCH.batch: 0, TOMORROW.batch: 0}
    made: dict[str, Callable[..., Settled]] = {
        "d": done,
        "f": failed,
        "r": lambda number, **given: replace(done(number, **given), status="reused"),
    }
    for entry in story:
        if isinstance(entry, str):
            compacted(stores[1], grace_s=0 if entry == "clear" else 1e12)
            continue
        rows, is_tomorrow = entry
        batch = TOMORROW if is_tomorrow else BATCH
        told = [made[how](number, batch=batch, finished_s=1e9 + at_s) for number, how, at_s in rows]
        for store in stores:
            commit(store, told, batch, numbers[batch.batch])
        numbers[batch.batch] += 1
    views = ("outputs", "attempts")
    with stores[0].connect(*views) as plain, stores[1].connect(*views) as folded:
        for sql in (
            "select job_id, batch, status, finished_at from _settled order by all",
            "select job_id, batch, index, uri, finished_at from outputs order by all",
            "select job_id, batch, attempt_id, finished_at from attempts order by all",
        ):
            assert plain.execute(sql).fetchall() == folded.execute(sql).fetchall()


@pytest.mark.nights
def test_a_shard_that_is_replaced_is_not_even_opened_however_many_runs_there_were(
    store: Store,
) -> None:
    for number in range(RUNS):
        night = replace(BATCH, batch=f"night-{number}")
        commit(store, [done(number, batch=night)], night)
    before = seen(store)
    compacted(store)
    for key in store.blobs.list("results/dt=2"):  # as good as removed
        (store.root / key).write_bytes(b"gone in a moment")

    assert seen(store) == before
    commit(store, [done(5)], replace(BATCH, epoch=4))
    assert len(seen(store)[0]) == len(before[0]) + 1


@pytest.mark.nights
@given(
    number=st.integers(0, 3_000_000),
    below=st.integers(0, 3_000_000),
    run=st.sampled_from(["dt=2026-01-31/night-000001", "dt=2026-01-31/night-1-000001"]),
)
@few(50, of=500)
def test_shards_of_a_run_below_a_number_are_replaced_and_no_others(
    number: int, below: int, run: str
) -> None:
    folded = (Folded("dt=2026-01-31/night-000001", below, 1), Folded("dt=2026-01-31/x-1", 7, 1))
    file = CompactFile("compact/dt=2026-01-31/1.parquet", 1, 1, "")
    sql = settled_sql("", Manifest(1, 0.0, (file,), folded))
    [(_, where)] = re.findall(r"(?s)view _fresh as(.*?)\n(where .*?);", sql)
    name = f"/a/results/{run}-{number:06d}.parquet"

    with duckdb.connect() as con:
        found = con.execute(f"select filename from (select ? as filename) {where}", [name])  # noqa: S608

        is_replaced = run == folded[0].run and number < below
        assert found.fetchall() == ([] if is_replaced else [(name,)])


def test_compacted_files_are_in_the_order_of_the_commits_in_large_row_groups(store: Store) -> None:
    compacted(store)

    first, second = newest_manifest(store.blobs).files
    assert (first.day, second.day) == ("2026-01-31", "2026-02-01")
    with pq.ParquetFile(store.root / first.key) as file:
        assert file.num_row_groups == 1
        assert file.read(columns=["batch"])[0].to_pylist() == ["night"] * 4
