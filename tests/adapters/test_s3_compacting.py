"""A store in a bucket is compacted, verified and cleared as one in a folder is."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nightkiln.core.model import BatchId, Settled
from nightkiln.store.audit import unnamed_compact_files
from nightkiln.store.collecting import OLDER_THAN_S, collectable
from nightkiln.store.commit import create_or_same, shard_key
from nightkiln.store.compacting import Compacted, compact
from nightkiln.store.rows import parquet_bytes, rows_table
from nightkiln.store.store import Store
from nightkiln.store.verifying import verify
from nightkiln.testing.s3_server import BUCKET, S3Server
from nightkiln.testing.settled import BATCH, done, failed, picture

pytestmark = pytest.mark.s3

NOW_S = 2e9  # later than any file is old


def commit(store: Store, settled: list[Settled], batch: BatchId = BATCH, number: int = 0) -> None:
    for one in settled:
        for output in one.outputs:
            store.blobs.put(output.uri, picture(int(one.job.values["seed"])))
    key = shard_key(batch, number)
    create_or_same(store.blobs, key, parquet_bytes(rows_table(settled, batch, key)))


def test_of_several_compactions_at_once_in_a_bucket_one_counts(
    s3: S3Server, tmp_path: Path
) -> None:
    uri = f"s3://{BUCKET}/tests/{uuid.uuid4().hex}"
    store = Store.open(uri, create=True, s3=s3.access, state=tmp_path)
    for number in range(4):
        commit(store, [done(10 * number + n) for n in range(3)], number=number)
    before = rows(store)

    def one(name: str) -> Compacted:
        mine = Store.open(uri, s3=s3.access, state=tmp_path / name)
        return compact(mine, now_s=mine.now_s(), tell=lambda _read, _of: None)

    with ThreadPoolExecutor(3) as threads:
        made = list(threads.map(one, "abc"))

    folded = [one for one in made if one.shards]
    assert [(one.shards, one.rows) for one in folded] == [(4, 12)]
    assert rows(store) == before
    assert unnamed_compact_files(store.blobs) == set()
    assert [one.removed for one in made] == [0, 0, 0]  # by the clock of the place


def rows(store: Store) -> list[tuple[Any, ...]]:
    with store.connect("jobs") as con:
        return con.execute("select job_id, status, uri from jobs order by all").fetchall()


def test_a_store_in_a_bucket_answers_as_it_did_before_it_was_compacted(
    s3: S3Server, tmp_path: Path
) -> None:
    uri = f"s3://{BUCKET}/tests/{uuid.uuid4().hex}"
    store = Store.open(uri, create=True, s3=s3.access, state=tmp_path)
    commit(store, [done(1), failed(2), done(3)])
    commit(store, [done(2, finished_s=1.8e9)], replace(BATCH, epoch=2))
    before = rows(store)

    first = compact(store, now_s=0.0, tell=lambda _read, _of: None)
    compacted = rows(store)
    commit(store, [failed(1), done(7)], replace(BATCH, epoch=3))
    more = rows(store)
    for _ in range(2):
        compact(store, now_s=NOW_S, grace_s=0, tell=lambda _read, _of: None)

    assert (first.shards, first.rows, first.rows_lost) == (2, 3, 1)
    assert compacted == before
    assert len(more) == len(before) + 1
    assert rows(store) == more
    assert list(store.blobs.list("results/dt=2")) == []
    assert verify(store, is_quick=False, tell=lambda _what, _n, _of: None).problems == 0
    found = collectable(
        store, older_than_s=OLDER_THAN_S, now_s=NOW_S, tell=lambda _what, _n, _of: None
    )
    assert found.all == []
