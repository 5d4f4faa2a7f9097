"""Stores that earlier versions wrote are read, asked, added to and compacted by this one."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightkiln.store.commit import create_or_same, shard_key
from nightkiln.store.compacting import compact
from nightkiln.store.manifest import newest_manifest
from nightkiln.store.rows import RESULTS, SCHEMA_VERSION, parquet_bytes, rows_table
from nightkiln.store.store import MARKER, Store
from nightkiln.store.verifying import verify
from nightkiln.store.views import VIEWS
from nightkiln.testing.settled import BATCH, done, failed, job, picture

STORES = Path(__file__).parents[1] / "stores"
KEPT = sorted(path.name for path in STORES.glob("schema-*.tar.gz"))
SECOND = replace(BATCH, epoch=2)
NEEDS_FILES = {"quotes", "calibration", "scorecard", "blocklist"}  # not in the first stores
# Columns that "the version before" has not.
LATER = ("download_s", "out_media", "out_verified", "out_pixels", "att_fault")


def kept(folder: Path, name: str) -> Store:
    with tarfile.open(STORES / name) as archive:
        archive.extractall(folder, filter="data")
    return Store.open(str(folder))


def before_these_columns(folder: Path) -> Store:
    """A store of a version that had fewer columns: a scalar, one of outputs, one of attempts."""
    made = Store.open(str(folder), create=True)
    earlier = pa.schema([field for field in RESULTS if field.name not in LATER])
    made.blobs.remove(f"results/dt=1970-01-01/schema-{SCHEMA_VERSION}.parquet")
    made.blobs.put("results/dt=1970-01-01/schema-0.parquet", parquet_bytes(earlier.empty_table()))
    for number, settled in enumerate(([done(1), failed(2), done(3)], [done(4)])):
        key = shard_key(BATCH, number)
        table = rows_table(settled, BATCH, key).select(earlier.names)
        made.blobs.put(key, parquet_bytes(table))
        for one in settled:
            for output in one.outputs:
                made.blobs.put(output.uri, picture(int(one.job.values["seed"])))
    made.blobs.put(MARKER, json.dumps({"schema_version": 0, "id": "kept"}).encode())
    return Store.open(str(folder))


def answers(store: Store) -> tuple[object, ...]:
    with store.connect() as con:
        rows = con.execute("select job_id, status, uri, download_s from jobs order by 1").fetchall()
        media = con.execute("select count(*), count(media) from outputs").fetchall()
        faults = con.execute("select status, fault from attempts order by all").fetchall()
    return rows, media, faults


def test_there_is_a_store_of_every_version() -> None:
    versions = [f"schema-{version}.tar.gz" for version in range(1, SCHEMA_VERSION + 1)]

    assert set(versions) <= set(KEPT), "python -m tests.stores.make, before the version is raised"


@pytest.mark.parametrize("name", KEPT)
def test_a_kept_store_answers_every_view(tmp_path: Path, name: str) -> None:
    store = kept(tmp_path, name)

    with store.connect() as con:
        there = {view for (view,) in con.execute("select view_name from duckdb_views()").fetchall()}
        for view in there & set(VIEWS):
            con.execute(f"select * from {view}").fetchall()  # noqa: S608 - names of ours
        jobs = con.execute(
            "select status, count(*), sum(challenge) from jobs group by 1"
        ).fetchall()
        usd = con.execute("select usd from leases").fetchall()

    assert set(VIEWS) - there <= NEEDS_FILES
    assert sorted(jobs) == [("done", 3, 8), ("failed", 1, 2)]
    assert [str(one) for (one,) in usd] == ["0.900000"]


@pytest.mark.nights
@pytest.mark.parametrize("name", [*KEPT, "fewer columns"])
def test_what_is_committed_and_compacted_today_stands_beside_it(tmp_path: Path, name: str) -> None:
    store = before_these_columns(tmp_path) if name == "fewer columns" else kept(tmp_path, name)
    untouched = answers(store)
    assert verify(store, is_quick=False, tell=lambda _what, _n, _of: None).problems == 0

    store.prepare(now_s=0.0)
    key = shard_key(SECOND, 0)
    create_or_same(
        store.blobs, key, parquet_bytes(rows_table([done(2, finished_s=1.8e9)], SECOND, key))
    )
    store.blobs.put(done(2).outputs[0].uri, picture(2))
    before = answers(store)
    for _ in range(2):
        compact(store, now_s=2e9, grace_s=0, tell=lambda _read, _of: None)

    assert before != untouched
    assert answers(store) == before
    [file] = newest_manifest(store.blobs).files
    assert pq.read_schema(store.root / file.key).names == RESULTS.names
    assert verify(store, is_quick=False, tell=lambda _what, _n, _of: None).problems == 0
    marker = json.loads(store.blobs.get(MARKER))
    assert marker["schema_version"] == SCHEMA_VERSION


def test_rows_that_lack_a_column_show_null_and_later_ones_their_value(tmp_path: Path) -> None:
    store = before_these_columns(tmp_path)
    key = shard_key(SECOND, 0)
    create_or_same(store.blobs, key, parquet_bytes(rows_table([done(5)], SECOND, key)))

    for _ in range(2):  # as committed, then compacted
        with store.connect() as con:
            found = con.execute(
                "select job_id, download_s from jobs where status = 'done'"
            ).fetchall()
            media = con.execute("select job_id, media from outputs").fetchall()
        assert dict(found) == {job(n).id: 0.25 if n == 5 else None for n in (1, 3, 4, 5)}
        assert dict(media) == {job(n).id: "image/png" if n == 5 else None for n in (1, 3, 4, 5)}
        compact(store, now_s=2e9, grace_s=0, tell=lambda _read, _of: None)
