"""A store of ten million results: commits, folding ten thousand small files, questions, a plan."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from nightkiln.catalog import load_catalog, plan_jobs, scratch
from nightkiln.core.model import Cost, Lease, LeaseEnd, LeaseId, Offer
from nightkiln.store.commit import SHARD_ROWS_MAX, create_or_same, shard_key
from nightkiln.store.compacting import compact
from nightkiln.store.manifest import CompactFile, Manifest, create_manifest
from nightkiln.store.records import write_lease_end
from nightkiln.store.rows import RESULTS, parquet_bytes, rows_table
from nightkiln.store.store import Store
from nightkiln.store.writing import GROUP_ROWS
from nightkiln.testing.samples import write_catalog
from nightkiln.testing.settled import BATCH, done
from tests.benchmarks.child import in_child, measured, peak_mb
from tests.benchmarks.figure import Figure, at_least, at_most
from tests.benchmarks.planning import PROMPTS

NIGHTS, NIGHT_ROWS, SHARD = 10, 1_000_000, 1000
NIGHTS_QUICK, NIGHT_ROWS_QUICK = 5, 4_000
GROWTH = 4  # so many times as many rows are folded after the first ones
GROWTH_MAX = 1.25 * GROWTH  # linear, with some room for noise
PEAK_GROWTH_MAX = 1.25  # bounded: as much memory for all that
LEASES = 100  # of each night
WRITERS, SHARDS_EACH, SHARDS_EACH_QUICK = 4, 60, 4
TIMES_ASKED = 3  # the quickest counts: other programs only ever slow one down
MEMORY = "512MB"  # of DuckDB
COUNT_S_MAX, JOBS_S_MAX, LISTS_S_MAX = 0.1, 2.0, 3.0
COMMIT_ROWS_PER_S_MIN = 15_000.0
PLAN_S_MAX, PLAN_MB_MAX = 25.0, 700.0

QUESTIONS = {
    "count_jobs": ("select count(*) from jobs", COUNT_S_MAX),
    "count_outputs": ("select count(*) from outputs", COUNT_S_MAX),
    "count_attempts": ("select count(*) from attempts", COUNT_S_MAX),
    "count_by_status": ("select status, count(*) from jobs group by 1", JOBS_S_MAX),
    "jobs_by_gpu": (
        "select provider, gpu, count(*), sum(usd), quantile_cont(gpu_seconds, 0.95) from jobs "  # noqa: ISC004
        "group by 1, 2",
        JOBS_S_MAX,
    ),
    "outputs_by_media": ("select media, count(*), sum(bytes) from outputs group by 1", LISTS_S_MAX),
    "outputs_by_gpu": ("select provider, gpu, sum(bytes) from outputs group by 1, 2", LISTS_S_MAX),
    "attempts_by_host": (
        "select host, count(*) filter (status = 'failed') / count(*) from attempts group by 1",
        LISTS_S_MAX,
    ),
    "attempts_by_gpu": (
        "select provider, gpu, status, sum(usd) from attempts group by all",
        LISTS_S_MAX,
    ),
}

ANSWERS = ("waste", "cost_per_1000", "machines", "progress")  # nothing is promised; asked once


def figures(*, is_quick: bool) -> Iterator[Figure]:
    """Commits by several at once; the life of a large store; a large plan."""
    nights = NIGHTS_QUICK if is_quick else NIGHTS
    rows = NIGHT_ROWS_QUICK if is_quick else NIGHT_ROWS
    yield from _committing(SHARDS_EACH_QUICK if is_quick else SHARDS_EACH)
    with tempfile.TemporaryDirectory() as folder:
        yield from _folding(folder, nights, rows)
        asked = in_child(__name__, "ask", folder=folder)
        for name, (_, most) in QUESTIONS.items():
            yield at_most(f"store_{name}", asked[name], "s", most)
        for name in ANSWERS:
            yield Figure(f"store_{name}", asked[name], "s")
        yield Figure("store_ask_peak", asked["peak_mb"], "MB")
    with tempfile.TemporaryDirectory() as folder:
        in_child(__name__, "prepare_plan", folder=folder, rows=nights * rows)
        spent = in_child("tests.benchmarks.planning", "plan", folder=folder)
        yield at_most("store_plan", spent["wall_s"], "s", PLAN_S_MAX)
        yield at_most("store_plan_peak", spent["peak_mb"], "MB", PLAN_MB_MAX)
        hashing = in_child("tests.benchmarks.planning", "hashing", folder=folder)
        yield Figure("store_plan_over_plain_hashing", spent["wall_s"] / hashing["wall_s"], "x")


def _folding(folder: str, nights: int, rows: int) -> Iterator[Figure]:
    """A fifth of the nights is folded first, then the others; the store is there afterwards."""
    first = nights // (GROWTH + 1)
    folded = []
    for some in (range(first), range(first, nights)):
        for night in some:
            in_child(__name__, "prepare", folder=folder, night=night, rows=rows)
        folded.append(in_child(__name__, "fold", folder=folder))
    few, many = folded
    wall_s = few["wall_s"] + many["wall_s"]
    yield Figure("store_compact", wall_s, "s")
    yield Figure("store_compact_rows", nights * rows / wall_s, "rows/s")
    yield Figure("store_compact_files", few["shards"] + many["shards"], "files")
    yield Figure("store_compact_peak", many["peak_mb"], "MB")
    growth = many["wall_s"] / few["wall_s"]
    yield at_most(f"store_compact_growth_at_{GROWTH}x_rows", growth, "x", GROWTH_MAX)
    growth = many["peak_mb"] / few["peak_mb"]
    yield at_most(f"store_compact_peak_growth_at_{GROWTH}x_rows", growth, "x", PEAK_GROWTH_MAX)


def _committing(shards: int) -> Iterator[Figure]:
    """Several controllers on one store, each on a batch of its own."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(WRITERS) as writers:
        Store.open(f"{folder}/store", create=True)
        begin_s = time.time() + 5.0  # when all have started
        asked = [
            writers.submit(
                in_child,
                __name__,
                "commit",
                folder=folder,
                writer=n,
                shards=shards,
                begin_s=begin_s,
            )
            for n in range(WRITERS)
        ]
        spans = [one.result() for one in asked]
        with Store.open(f"{folder}/store").connect() as con:
            [(rows,)] = con.execute("select count(*) from jobs").fetchall()
    assert rows == WRITERS * shards * SHARD_ROWS_MAX, "nothing was lost, nothing is double"
    lasted_s = max(one["ended_s"] for one in spans) - min(one["began_s"] for one in spans)
    rate = rows / lasted_s
    yield at_least("store_commit", rate, "rows/s", COMMIT_ROWS_PER_S_MIN)


def commit(folder: str, writer: int, shards: int, begin_s: float) -> dict[str, float]:
    """One writer: full shards of settled jobs, from objects to durable files."""
    store = Store.open(f"{folder}/store")
    batch = replace(BATCH, batch=f"night-{writer}")
    jobs = [done(number, batch=batch) for number in range(shards * SHARD_ROWS_MAX)]
    time.sleep(max(0.0, begin_s - time.time()))
    began_s = time.time()
    for number in range(shards):
        key = shard_key(batch, number)
        some = jobs[number * SHARD_ROWS_MAX : (number + 1) * SHARD_ROWS_MAX]
        create_or_same(store.blobs, key, parquet_bytes(rows_table(some, batch, key)))
    return {"began_s": began_s, "ended_s": time.time()}


def prepare(folder: str, night: int, rows: int) -> None:
    """Write one night's small files; not synced: they need not outlive the benchmark."""
    store = Store.open(f"{folder}/store", create=True)
    batch = replace(BATCH, batch=f"night-{night}", date=_day(night))
    values = {"night": night, "rows": rows, "shard": SHARD, "date": batch.date, "leases": LEASES}
    sql = (Path(__file__).parent / "many_results.sql").read_text()
    sql = re.sub(r"\{\{(\w+)\}\}", lambda hole: str(values[hole[1]]), sql)
    number = 0
    with duckdb.connect() as con:
        con.execute("set enable_progress_bar = false")
        for found in con.sql(sql).to_arrow_reader(GROUP_ROWS):
            table = pa.Table.from_batches([found]).cast(RESULTS)
            for start in range(0, table.num_rows, SHARD):
                target = store.root / shard_key(batch, number)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(parquet_bytes(table.slice(start, SHARD)))
                number += 1
    for lease in range(LEASES):
        name = LeaseId(f"night-{night}-lease-{lease}")
        offer = Lease(name, Offer("vast", "4711", usd_per_hour=Decimal("0.4")))
        cost = Cost(Decimal("0.9"))
        end = LeaseEnd(offer, 1.0, 2.0, 3.0, "done", 2, 1, busy_s=6.0, cost=cost)
        write_lease_end(store.blobs, batch, end)


def _day(night: int) -> str:
    return f"{date.fromisoformat(BATCH.date) + timedelta(days=night)}"


def fold(folder: str) -> dict[str, float]:
    """Compact everything; then what was replaced goes, as it does a day later."""
    store = Store.open(f"{folder}/store")
    with measured() as spent:
        made = compact(store, now_s=time.time(), tell=_nobody)
    peak = peak_mb()
    compact(store, now_s=time.time() + 1, grace_s=0, tell=_nobody)
    return {"wall_s": spent.wall_s, "peak_mb": peak, "shards": made.shards}


def _nobody(_read: int, _total: int) -> None:
    """Nobody is told."""


def ask(folder: str) -> dict[str, float]:
    """The quickest of a few askings of every question."""
    store = Store.open(f"{folder}/store")
    seconds: dict[str, float] = {}
    with store.connect() as con, tempfile.TemporaryDirectory() as spill:
        con.execute(f"set memory_limit = '{MEMORY}'")
        con.execute("set temp_directory = ?", [spill])
        for name, (sql, _) in QUESTIONS.items():
            times = []
            for _ in range(TIMES_ASKED):
                with measured() as spent:
                    con.execute(sql).fetchall()
                times.append(spent.wall_s)
            seconds[name] = min(times)
        for name in ANSWERS:
            with measured() as spent:
                con.execute(f"from {name}").fetchall()
            seconds[name] = spent.wall_s
    return {**seconds, "peak_mb": peak_mb()}


def prepare_plan(folder: str, rows: int) -> None:
    """A catalog of ``rows`` prompts, and a compacted store in which every other one is done."""
    path = write_catalog(Path(folder) / "catalog", 1)
    store = Store.open(f"{folder}/store", create=True)
    like = rows_table([done(0)], BATCH, "key")
    key = f"compact/dt={BATCH.date}/000001-benchmark-000.parquet"
    target = store.root / key
    target.parent.mkdir(parents=True)
    with scratch() as con:
        con.sql(PROMPTS, params=[rows]).write_parquet(str(path / "prompts.parquet"))
        plan_jobs(con, load_catalog(path), batch=BATCH.batch)
        ids = con.sql("SELECT job_id FROM planned WHERE row % 2 = 0 ORDER BY row")
        with pq.ParquetWriter(target, RESULTS, compression="zstd") as writer:
            for found in ids.to_arrow_reader(GROUP_ROWS):
                writer.write_table(_with_ids(like, found.column(0).cast(pa.string())))
    file = CompactFile(key, (rows + 1) // 2, target.stat().st_size, "0" * 64)
    create_manifest(store.blobs, Manifest(1, 0.0, (file,)))


def _with_ids(like: pa.Table, ids: Any) -> pa.Table:
    return like.take(pa.nulls(len(ids), pa.int64()).fill_null(0)).set_column(0, "job_id", ids)
