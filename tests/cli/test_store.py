"""``nightkiln store`` as people and programs call it: words, JSON, exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from nightkiln import cli
from nightkiln.cli.progress import Counter
from nightkiln.cli.retry import job_ids_in
from nightkiln.store.commit import create_or_same, shard_key
from nightkiln.store.manifest import newest_manifest
from nightkiln.store.rows import parquet_bytes, rows_table
from nightkiln.store.store import Store
from nightkiln.testing.settled import BATCH, done, job, picture


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store.open(str(tmp_path / "store"), create=True)
    for number in range(3):
        key = shard_key(BATCH, number)
        made.blobs.put(done(number).outputs[0].uri, picture(number))
        create_or_same(made.blobs, key, parquet_bytes(rows_table([done(number)], BATCH, key)))
    return made


def call(store: Store, *arguments: str) -> Result:
    words = ["store", *arguments, "--store", str(store.root)]
    return CliRunner().invoke(cli.app, words)


def last(result: Result) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return told


def test_compact_says_first_what_it_would_do_and_then_what_it_did(store: Store) -> None:
    dry = call(store, "compact", "--dry-run")
    after_dry = newest_manifest(store.blobs).number
    did = call(store, "compact")
    again = call(store, "compact", "--json", "--grace-hours", "0")

    assert (dry.exit_code, did.exit_code, again.exit_code) == (0, 0, 0)
    assert (dry.stdout.split(",")[0], after_dry) == ("3 small files of 1 day", 0)
    assert "3 small files folded into 1, 3 rows" in did.stdout
    told = last(again)
    assert (told["event"], told["manifest"], told["shards"]) == ("compacted", 1, 0)
    assert told["removed"] == 3


def test_verify_ends_with_0_when_all_is_well_and_with_1_and_the_repair_when_not(
    store: Store, tmp_path: Path
) -> None:
    well = call(store, "verify")
    store.blobs.remove(done(1).outputs[0].uri)
    ill = call(store, "verify", "--jobs", str(tmp_path / "jobs.txt"))
    told = last(call(store, "verify", "--quick", "--json"))

    assert (well.exit_code, well.stdout.splitlines()[-1]) == (0, "problems: 0")
    assert (ill.exit_code, ill.stdout.splitlines()[-1]) == (1, "problems: 1")
    assert "render their jobs again" in " ".join(ill.stdout.split())
    assert (tmp_path / "jobs.txt").read_text() == f"{job(1).id}\n"
    assert list(job_ids_in((tmp_path / "jobs.txt").read_text())) == [job(1).id]  # retry takes it
    assert (told["problems"], told["files_read"]) == (1, 0)
    assert [repair["kind"] for repair in told["repairs"]] == ["missing"]


def test_gc_removes_nothing_without_yes_and_nothing_younger_than_a_day_ever(store: Store) -> None:
    key = f"images/{BATCH.batch}/00/nobodys.png"
    store.blobs.put(key, b"of a render that lost")
    os.utime((store.root / key), (0, 0))

    dry = call(store, "gc")
    there = store.blobs.size(key)
    refused = call(store, "gc", "--older-than-days", "0.5")
    did = call(store, "gc", "--yes", "--json")

    assert (dry.exit_code, there) == (1, 21)
    assert key in dry.stdout
    assert refused.exit_code == 2
    assert (did.exit_code, last(did)["files"], last(did)["bytes"]) == (0, 1, 21)
    assert store.blobs.size(key) is None
    assert call(store, "gc").stdout == "nothing to remove\n"


def test_stats_are_a_table_or_one_object(store: Store) -> None:
    assert call(store, "stats").exit_code == 0
    told = last(call(store, "stats", "--json"))

    assert (told["event"], told["jobs"], told["images"], told["shards"]) == ("stats", 3, 3, 3)


def test_what_takes_long_says_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    now_s = iter((0.0, 1.0, 3.0, 3.5, 6.0))
    counter = Counter(as_json=False, clock=lambda: next(now_s))

    for megabytes in range(1, 6):
        counter.tell("bytes read", megabytes * 1_000_000, 9_000_000)
    counter.end()

    said = capsys.readouterr().err.splitlines()
    assert said == ["bytes read: 3.0 MB of 9.0 MB", "bytes read: 5.0 MB of 9.0 MB"]
