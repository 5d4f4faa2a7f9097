"""Preflight and plan of a large catalog, half of it done: seconds, memory, and how they grow."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa

from nightkiln.catalog import check, definitions_for, load_catalog, plan_jobs, scratch
from nightkiln.planner import Plan
from nightkiln.store.commit import SHARD_ROWS_MAX, shard_key
from nightkiln.store.rows import parquet_bytes, rows_table
from nightkiln.store.store import Store
from nightkiln.testing.samples import write_catalog
from nightkiln.testing.settled import BATCH, done
from tests.benchmarks.child import in_child, measured, peak_mb
from tests.benchmarks.figure import Figure, at_most

ROWS, ROWS_QUICK = 1_000_000, 40_000
QUARTER = 4  # the smaller catalog has so many times fewer rows
GROWTH_MAX = 1.25 * QUARTER  # linear, with some room for noise
PREFLIGHT_S_MAX = 30.0
PLANS = 3  # of the same catalog, to find a calm moment
TAKEN = 1024  # jobs, as many as a run asks for first


def figures(*, is_quick: bool) -> Iterator[Figure]:
    """Preflight and plan; plain hashing of as many rows; the plan of a quarter of them."""
    rows = ROWS_QUICK if is_quick else ROWS
    with tempfile.TemporaryDirectory() as folder:
        in_child(__name__, "prepare", folder=folder, rows=rows)
        preflight = in_child(__name__, "preflight", folder=folder)
        yield at_most("preflight", preflight["wall_s"], "s", PREFLIGHT_S_MAX)
        yield Figure("preflight_peak", preflight["peak_mb"], "MB")
        plan = _calmest_plan(folder)
        yield Figure("plan", plan["wall_s"], "s")
        yield Figure("plan_peak", plan["peak_mb"], "MB")
        hashing = in_child(__name__, "hashing", folder=folder)
        yield Figure("plan_over_plain_hashing", plan["wall_s"] / hashing["wall_s"], "x")
    with tempfile.TemporaryDirectory() as folder:
        in_child(__name__, "prepare", folder=folder, rows=rows // QUARTER)
        quarter = _calmest_plan(folder)
    growth = plan["wall_s"] / quarter["wall_s"]
    yield at_most(f"plan_growth_at_{QUARTER}x_rows", growth, "x", GROWTH_MAX)


def _calmest_plan(folder: str) -> Mapping[str, float]:
    """The faster of a few: other programs on the machine only ever slow one down."""
    plans = [in_child(__name__, "plan", folder=folder) for _ in range(PLANS)]
    return min(plans, key=lambda one: one["wall_s"])


def prepare(folder: str, rows: int) -> None:
    """Write a catalog of ``rows`` prompts, and a store in which every other one is done."""
    path = write_catalog(Path(folder) / "catalog", 1)
    with scratch() as con:
        prompts = con.sql(PROMPTS, params=[rows])
        prompts.write_parquet(str(path / "prompts.parquet"))
        plan_jobs(con, load_catalog(path), batch=BATCH.batch)
        planned = con.sql("SELECT job_id FROM planned WHERE row % 2 = 0 ORDER BY row")
        ids = planned.to_arrow_table()["job_id"].combine_chunks().cast(pa.string())
    store = Store.open(str(Path(folder) / "store"), create=True)
    like = rows_table([done(0)], BATCH, "key")
    for number, start in enumerate(range(0, len(ids), SHARD_ROWS_MAX)):
        some = ids[start : start + SHARD_ROWS_MAX]
        shard = like.take([0] * len(some)).set_column(0, "job_id", some)
        target = store.root / shard_key(BATCH, number)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(parquet_bytes(shard))  # not synced: it need not outlive the benchmark


# As long as the prompts that people write: about a hundred letters.
PROMPTS = """
SELECT concat('row-', n) AS id, n % 12 AS category,
       concat('sample prompt ', n, ' ', repeat(md5(n::VARCHAR), 3)) AS prompt
FROM range(?) t(n)
"""


def preflight(folder: str) -> dict[str, float]:
    """Check the whole catalog against the stock nodes."""
    catalog = load_catalog(Path(folder) / "catalog")
    with scratch() as con, measured() as spent:
        problems = check(catalog, definitions_for(catalog), con)
    assert not problems, problems
    return {"wall_s": spent.wall_s, "peak_mb": peak_mb()}


def plan(folder: str) -> dict[str, float]:
    """From the files to the first jobs: rows read, ids made, settled ones left out."""
    store = Store.open(str(Path(folder) / "store"))
    with scratch() as con, measured() as spent:
        catalog = load_catalog(Path(folder) / "catalog")
        planned = Plan(con, catalog, store, BATCH.batch, BATCH.date, reuses=True)
        planned.prepare()
        counts = planned.counts()
        jobs, _ = planned.take(TAKEN)
    assert counts.done * 2 == counts.total, "half of the catalog is done"
    assert len(jobs) == TAKEN
    return {"wall_s": spent.wall_s, "peak_mb": peak_mb()}


def hashing(folder: str) -> dict[str, float]:
    """What DuckDB takes at least: read the rows and give each a SHA-256."""
    prompts = Path(folder) / "catalog" / "prompts.parquet"
    with scratch() as con, measured() as spent:
        query = "CREATE TABLE hashed AS SELECT sha256(prompt) FROM read_parquet(?)"
        con.execute(query, [str(prompts)])
    return {"wall_s": spent.wall_s}
