"""What must be true of a store once a batch is done, however many runs were killed on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import duckdb

from nightkiln.core.errors import StoreUnusable
from nightkiln.night import ALL_DONE
from nightkiln.store.claims import newest_claim
from nightkiln.store.store import Store

_JOBS = """
    select count(*), count(distinct job_id), count(*) filter (status = 'done')
    from jobs where batch = $batch
"""
_ROWS = "select count(*) from _results where batch = $batch"
_TRIES = "select count(*) from attempts where batch = $batch and status = 'done'"
_FILES = "select count(*), count(distinct uri) from outputs where batch = $batch"
_BATCH = "select done, reused, failed, exit_code from batches where batch = $batch"
_RUNS = "select count(*) from runs where batch = $batch and ended_at < started_at"
_LEASES = """
    select
        count(*) filter (epoch not in (select epoch from runs where batch = $batch)),
        count(*) filter (released_at < rented_at),
        count(*) filter (ready_at not between rented_at and released_at),
        count(*) filter (busy_s < 0),
        coalesce(max(jobs_done), 0) > (select count(*) from jobs where batch = $batch)
    from leases where batch = $batch
"""


def broken_promises(store: Store, batch: str, *, jobs: int) -> list[str]:
    """What is wrong with a batch that ended with all its jobs done, in sentences.

    Every catalog row must mean one job with one output file. Blocking: it reads every file.
    """
    try:
        return [*_wrong_answers(store, batch, jobs), *_wrong_files(store), *_left(store, batch)]
    except (StoreUnusable, duckdb.Error) as error:
        return [f"the store cannot be read: {error}"]


def _wrong_answers(store: Store, batch: str, jobs: int) -> Iterator[str]:
    questions: list[tuple[str, str, tuple[Any, ...]]] = [
        ("jobs, different ones, done ones", _JOBS, (jobs, jobs, jobs)),
        ("rows in all shards", _ROWS, (jobs,)),  # the view jobs would hide a second one
        ("attempts that were done", _TRIES, (jobs,)),
        ("files, different ones", _FILES, (jobs, jobs)),
        ("done, reused, failed, exit code of the batch", _BATCH, (jobs, 0, 0, ALL_DONE)),
        ("runs that ended before they began", _RUNS, (0,)),
        ("leases that cannot have been", _LEASES, (0, 0, 0, 0, False)),
    ]
    with store.connect("jobs", "outputs", "attempts", "runs", "batches", "leases") as con:
        for what, sql, wanted in questions:
            answer = con.execute(sql, {"batch": batch}).fetchall()
            if answer != [wanted]:
                yield f"{what}: {answer} instead of {[wanted]}"


def _wrong_files(store: Store) -> Iterator[str]:
    with store.connect("outputs") as con:
        outputs = con.execute("select uri, sha256, bytes from outputs").fetchall()
    for uri, sha256, size in outputs:
        try:
            data = store.blobs.get(uri)
        except KeyError:
            yield f"{uri} is not there"
            continue
        if (hashlib.sha256(data).hexdigest(), len(data)) != (sha256, size):
            yield f"{uri} is not the file that was verified"


def _left(store: Store, batch: str) -> Iterator[str]:
    """Whatever a run should have given back or cleared away."""
    claim = newest_claim(store.blobs, batch)
    if claim is None or claim.ended is None or claim.ended.get("exit_code") != ALL_DONE:
        yield f"the last run's claim is not closed as done: {claim}"
    for epoch in range(1, claim.epoch + 1 if claim is not None else 1):
        if store.journal_path(batch, epoch).exists():
            yield f"the journal of run {epoch} is still there"
