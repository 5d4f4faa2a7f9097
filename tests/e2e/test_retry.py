"""Jobs rendered again: those that failed, those that somebody names, and with other seeds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from nightkiln import cli
from nightkiln.core.errors import BadInput
from nightkiln.core.model import BatchId, JobId
from nightkiln.journal import FileJournal
from nightkiln.store.adopt import settled_fields
from nightkiln.store.choosing import Wanted
from nightkiln.store.claim import acquire
from nightkiln.store.commit import create_or_same, shard_key
from nightkiln.store.processes import Process
from nightkiln.store.records import BatchStart, write_batch_start
from nightkiln.store.rows import parquet_bytes, rows_table
from nightkiln.store.store import Store
from nightkiln.testing.comfyui.process import stand_in_process
from nightkiln.testing.samples import write_catalog
from nightkiln.testing.settled import done, picture
from tests.asking import ask as asked


@dataclass(frozen=True)
class Desk:
    """Somebody with a catalog and a store."""

    catalog: Path
    folder: Path

    def call(self, command: str, url: str, *more: str, name: str = "night") -> Result:
        arguments = [command, str(self.catalog), "--store", str(self.folder / "store")]
        return CliRunner().invoke(
            cli.app, [*arguments, "--worker-url", url, "--name", name, "--json", *more]
        )

    def outcome(self, command: str, url: str, *more: str, name: str = "night") -> dict[str, Any]:
        result = self.call(command, url, *more, name=name)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
        assert found["event"] == "outcome"
        return found

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        return asked(Store.open(str(self.folder / "store")), sql)


@pytest.fixture(scope="module")
def worker() -> Iterator[str]:
    with stand_in_process() as process:
        yield process.url


@pytest.fixture(scope="module")
def broken() -> Iterator[str]:
    """A worker on which every job fails."""
    with stand_in_process("--fault", "error") as process:
        yield process.url


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    rows = [{"id": f"row-{n}", "prompt": f"prompt {n}", "level": n} for n in range(4)]
    return Desk(write_catalog(tmp_path / "catalog", rows), tmp_path)


@pytest.fixture
def failed(desk: Desk, broken: str) -> Desk:
    """A night in which every job has failed."""
    assert desk.outcome("run", broken)["failed"] == 4
    return desk


COUNTS = "select status, count(*) from jobs group by 1 order by 1"


def test_what_failed_is_rendered_again_in_the_same_batch(failed: Desk, worker: str) -> None:
    again = failed.outcome("run", worker)
    retried = failed.outcome("retry", worker, "--where", "fault = 'UNKNOWN'")
    nothing = failed.call("retry", worker)

    assert (again["done"], again["failed"]) == (0, 4)
    assert (retried["batch"], retried["done"], retried["failed"]) == ("night", 4, 0)
    assert (retried["exit_code"], nothing.exit_code) == (0, 0)
    assert failed.ask(COUNTS) == [("done", 4)]
    assert failed.ask("select jobs_total, done, failed from batches") == [(4, 4, 0)]


def test_a_condition_may_name_the_catalogs_own_columns_and_the_rest_stays_as_it_is(
    failed: Desk, worker: str
) -> None:
    retried = failed.outcome("retry", worker, "--where", "level >= 3 -- the hard one")

    assert (retried["done"], retried["failed"], retried["exit_code"]) == (1, 3, 1)
    assert failed.ask("select id from jobs where status = 'done'") == [("row-3",)]


def test_what_was_never_begun_is_left_for_a_run(desk: Desk, worker: str, broken: str) -> None:
    desk.outcome("run", broken, "--limit", "2")
    retried = desk.outcome("retry", worker, "--where", "row = 0")
    outcome = desk.outcome("run", worker)

    assert (retried["done"], retried["failed"], retried["left"]) == (1, 1, 2)
    assert (retried["left_out"], retried["exit_code"]) == (2, 1)
    assert (outcome["done"], outcome["failed"], outcome["left"]) == (3, 1, 0)


def test_what_fails_again_is_one_failure_still(failed: Desk, broken: str) -> None:
    retried = failed.outcome("retry", broken)

    assert (retried["failed"], retried["exit_code"]) == (4, 1)
    assert failed.ask(COUNTS) == [("failed", 4)]


def test_done_jobs_are_rendered_again_only_by_force(
    desk: Desk, tmp_path: Path, worker: str
) -> None:
    desk.outcome("run", worker)
    [(job_id, before)] = desk.ask("select job_id, epoch from jobs where row = 1")
    (tmp_path / "marks.csv").write_text(f"prompt,job_id\nany,{job_id}\n")
    marked = ("--jobs", str(tmp_path / "marks.csv"))
    left = desk.call("retry", worker, *marked)
    forced = desk.outcome("retry", worker, *marked, "--force")

    assert left.exit_code == 0
    assert "1 more is done: --force" in left.stderr
    assert (forced["done"], forced["outputs"], forced["exit_code"]) == (4, 1, 0)
    assert desk.ask("select row, epoch from jobs order by row") == [
        (0, before), (1, forced["epoch"]), (2, before), (3, before),
    ]  # fmt: skip


def test_a_forced_retry_that_fails_leaves_the_result_that_was_there(
    desk: Desk, worker: str, broken: str
) -> None:
    desk.outcome("run", worker)
    desk.outcome("retry", broken, "--force", "--where", "row = 1")

    assert desk.ask(COUNTS) == [("done", 4)]


@pytest.mark.nights
def test_new_seeds_make_new_jobs_that_say_what_they_replace(desk: Desk, worker: str) -> None:
    desk.outcome("run", worker)
    first = desk.outcome("retry", worker, "--reseed", "--where", "row in (1, 2)")
    same = desk.outcome("retry", worker, "--reseed", "--where", "row in (1, 2)")
    second = desk.outcome("retry", worker, "--reseed", "--where", "row = 2", name=first["batch"])

    assert (first["total"], first["done"], first["outputs"]) == (2, 2, 2)
    assert (same["batch"], same["outputs"], same["done"]) == (first["batch"], 0, 2)
    assert (second["total"], second["outputs"]) == (1, 1)
    assert first["batch"].startswith("night-reseed-")
    assert second["batch"].startswith("night-reseed-")
    links = desk.ask(
        "select b.row, b.prompt = a.prompt, b.seed <> a.seed, b.sha256 <> a.sha256, a.batch "
        "from jobs b join jobs a on b.replaces = a.job_id order by b.finished_at, b.row"
    )
    assert sorted(links) == [
        (1, True, True, True, "night"),
        (2, True, True, True, "night"),
        (2, True, True, True, first["batch"]),
    ]
    assert desk.ask("select jobs_total, done from batches where batch = 'night'") == [(4, 4)]


def test_a_catalog_without_a_seed_cannot_be_reseeded(tmp_path: Path, worker: str) -> None:
    inputs = {"prompt": "Positive Prompt.text"}
    fixed = Desk(write_catalog(tmp_path / "fixed", 1, inputs=inputs), tmp_path)
    fixed.outcome("run", worker)
    refused = fixed.call("retry", worker, "--reseed")

    assert isinstance(refused.exception, BadInput)
    assert "no seed" in str(refused.exception)


@pytest.mark.parametrize(
    "where", ["nonsense = 1", "true) or (true); drop view jobs; --", "status ="]
)
def test_a_condition_that_is_none_is_refused_before_anything_is_started(
    failed: Desk, where: str
) -> None:
    before = failed.ask("select count(*) from runs")

    refused = failed.call("retry", "http://127.0.0.1:9", "--where", where)

    assert isinstance(refused.exception, BadInput)
    assert "--where" in str(refused.exception)
    assert failed.ask("select count(*) from runs") == before


def test_a_list_that_cannot_be_read_is_refused(failed: Desk, tmp_path: Path) -> None:
    (tmp_path / "marks.csv").write_text(f'prompt,job_id\n"{"x" * 200_000}",{"a" * 64}\n')

    refused = failed.call("retry", "http://127.0.0.1:9", "--jobs", str(tmp_path / "marks.csv"))

    assert isinstance(refused.exception, BadInput)
    assert "is no CSV" in str(refused.exception)


def test_a_batch_that_is_not_there_is_answered_with_those_that_are(failed: Desk) -> None:
    refused = failed.call("retry", "http://127.0.0.1:9", name="morning")

    assert isinstance(refused.exception, BadInput)
    assert "night" in str(refused.exception)


@pytest.mark.nights
def test_a_job_that_the_catalog_dropped_is_counted_and_left_as_it_is(
    failed: Desk, worker: str
) -> None:
    write_catalog(failed.catalog, [{"id": "row-0", "prompt": "prompt 0", "level": 0}])
    said = failed.call("retry", worker)

    assert "3 of the chosen jobs are none of this catalog" in said.stdout
    assert failed.ask(COUNTS) == [("done", 1), ("failed", 3)]


@pytest.mark.nights
def test_what_a_killed_retry_has_finished_is_adopted_even_by_a_plain_run(
    failed: Desk, broken: str
) -> None:
    store = Store.open(str(failed.folder / "store"))
    proven(store, failed)
    outcome = failed.outcome("run", broken)

    assert (outcome["adopted"], outcome["done"], outcome["failed"]) == (1, 1, 3)
    assert failed.ask(COUNTS) == [("done", 1), ("failed", 3)]


@pytest.mark.nights
def test_a_forced_retry_that_was_cut_short_goes_on_and_a_whole_one_begins_anew(
    desk: Desk, worker: str
) -> None:
    desk.outcome("run", worker)
    store = Store.open(str(desk.folder / "store"))
    cut_short(store, desk, forced=Wanted("row < 3"))
    other = desk.outcome("retry", worker, "--force", "--where", "row = 0")
    went_on = desk.outcome("retry", worker, "--force", "--where", "row < 3")
    anew = desk.outcome("retry", worker, "--force", "--where", "row < 3")

    assert (other["outputs"], other["adopted"]) == (1, 0)
    assert (went_on["outputs"], went_on["done"], went_on["exit_code"]) == (1, 4, 0)
    assert (anew["outputs"], anew["done"]) == (3, 4)


def cut_short(store: Store, desk: Desk, *, forced: Wanted) -> None:
    """A forced retry that committed rows 0 and 1, and was killed."""
    [(date, catalog)] = desk.ask("select cast(dt as varchar), catalog from batches")
    epoch = acquire(store.blobs, "night", now_s=0.0).epoch
    batch = BatchId("night", epoch, date, catalog, "w" * 64, "e" * 64)
    process = Process("kiln.example", 42, "", "")
    start = BatchStart(batch, "c" * 64, process, 0.0, 4, "0", forced=forced.digest)
    write_batch_start(store.blobs, start)
    ids = desk.ask("select job_id from jobs where row < 2 order by row")
    made = [
        replace(done(number), job=replace(done(number).job, id=JobId(job_id)))
        for number, (job_id,) in enumerate(ids)
    ]
    for number, one in enumerate(made):
        store.blobs.put(one.outputs[0].uri, picture(number))
    key = shard_key(batch, 0)
    create_or_same(store.blobs, key, parquet_bytes(rows_table(made, batch, key)))


def proven(store: Store, desk: Desk) -> None:
    """A retry that kept one picture, wrote that down, and was killed."""
    [(job_id,)] = desk.ask("select job_id from jobs where row = 0")
    made = replace(done(0), job=replace(done(0).job, id=JobId(job_id)))
    store.blobs.put(made.outputs[0].uri, picture(0))
    epoch = acquire(store.blobs, "night", now_s=0.0).epoch
    journal = FileJournal(store.journal_path("night", epoch), disk=store.disk)

    async def keep() -> None:
        await journal.append("rendered", settled_fields(made))
        await journal.close()

    asyncio.run(keep())
