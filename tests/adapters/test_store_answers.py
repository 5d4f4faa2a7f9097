"""The ready answers: what 1000 images cost, which day, which machine, what failed, what is slow."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightkiln.core.model import (
    Attempt,
    AttemptId,
    BatchId,
    Cost,
    Fault,
    Lease,
    LeaseEnd,
    LeaseId,
    Offer,
    Settled,
)
from nightkiln.store.commit import create_or_same, shard_key
from nightkiln.store.plan_joins import reused
from nightkiln.store.processes import Process
from nightkiln.store.records import (
    BatchEnd,
    BatchStart,
    write_batch_end,
    write_batch_start,
    write_lease_end,
)
from nightkiln.store.rows import parquet_bytes, rows_table
from nightkiln.store.store import Store
from nightkiln.store.views import VIEWS
from nightkiln.testing.settled import BATCH, done, failed
from tests.asking import ask

T_S = 1_770_000_000.0  # 2026-02-02 02:40 UTC
OTHER = replace(BATCH, batch="other", workflow_digest="v" * 64, catalog="other")
FAST, SLOW, IDLE = "fast.example", "slow.example", "idle.example"


def commit(store: Store, settled: Sequence[Settled], batch: BatchId = BATCH) -> None:
    key = shard_key(batch, 0)
    create_or_same(store.blobs, key, parquet_bytes(rows_table(settled, batch, key)))


def begun(store: Store, batch: BatchId = BATCH, *, jobs: int = 3) -> BatchStart:
    process = Process("kiln.example", 42, "", "")
    start = BatchStart(batch, "c" * 64, process, T_S, jobs, "0")
    write_batch_start(store.blobs, start)
    return start


def lease(
    store: Store,
    host: str,
    usd: str,
    *,
    batch: BatchId = BATCH,
    rented_s: float = T_S,
    ready_s: float | None = T_S + 100,
    released_s: float | None = T_S + 1000,
    busy_s: float = 100.0,
    gpu: str = "RTX 4090",
) -> LeaseId:
    lease_id = LeaseId(f"{batch.batch}-{batch.epoch}-{host}-{rented_s:.0f}")
    offer = Offer("vast", host, gpu, usd_per_hour=Decimal("0.36"), machine=host)
    end = LeaseEnd(
        Lease(lease_id, offer, host=host),
        rented_s, ready_s, released_s, "no work", 1, 0, busy_s, Cost(Decimal(usd)),
    )  # fmt: skip
    write_lease_end(store.blobs, batch, end)
    return lease_id


def attempt(
    number: int,
    lease_id: LeaseId,
    host: str,
    *,
    at_s: tuple[float, float] = (T_S + 100, T_S + 110),
    status: str = "done",
    fault: Fault | None = None,
    error: str | None = None,
    gpu_s: float | None = None,
) -> Attempt:
    begins_s, ends_s = at_s
    is_counted = status in {"done", "hedge"}
    took_s = gpu_s if gpu_s is not None else ends_s - begins_s if is_counted else 0.0
    return Attempt(
        AttemptId(f"night-1-{number:06d}-{begins_s:.0f}"), lease_id, "vast", host, "RTX 4090",
        begins_s, ends_s, took_s, status, fault, error,
    )  # fmt: skip


def tried(number: int, *attempts: Attempt) -> Settled:
    """A job with these tries; it is done if the last of them is."""
    usual = done(number) if attempts[-1].status == "done" else failed(number)
    last = attempts[-1]
    return replace(
        usual, attempts=attempts, finished_s=last.finished_s, fault=last.fault, error=last.error
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"), create=True)


# What 1000 images cost.


def test_1000_images_cost_what_their_machines_did_with_all_waste_shared_out(store: Store) -> None:
    begun(store)
    begun(store, OTHER)
    worked = lease(store, FAST, "1.00", busy_s=40.0)
    lease(store, IDLE, "0.50", ready_s=None, busy_s=0.0)
    elsewhere = lease(store, SLOW, "2.00", batch=OTHER, busy_s=10.0)
    commit(store, [tried(n, attempt(n, worked, FAST)) for n in range(2)])
    commit(store, [tried(9, attempt(9, elsewhere, SLOW))], OTHER)

    found = ask(
        store,
        "select catalogs, jobs, images, usd - usd_waste, usd_waste, usd_per_1000, seconds_per_job "
        "from cost_per_1000 order by jobs",
    )

    # The three jobs carry 0.0001 USD each beside their lease; half of FAST's time gave
    # nothing.
    assert found == [
        (["other"], 1, 1, Decimal("2.0001"), 0, Decimal("2000.1"), 10.0),
        (["parti"], 2, 2, Decimal("0.5002"), 1, Decimal("750.1"), 10.0),
    ]


def test_images_whose_machine_is_still_rented_have_no_price_yet(store: Store) -> None:
    open_one = LeaseId("night-1-open")
    closed = lease(store, FAST, "1.00", busy_s=10.0)
    commit(
        store,
        [tried(1, attempt(1, open_one, SLOW)), tried(2, attempt(2, closed, FAST))],
    )

    assert ask(store, "select sum(images), sum(images_unpriced) from cost_per_1000") == [(2, 1)]
    assert ask(store, "select usd_per_1000 from cost_per_1000 where usd_per_1000 is not null") == [
        (Decimal("1000.1"),)
    ]


def test_what_was_reused_is_no_picture_that_was_paid_for(store: Store) -> None:
    commit(store, [reused(done(1).job, done(1).outputs, now_s=T_S)])

    assert ask(store, "select * from cost_per_1000") == []
    assert ask(store, "select * from spend_by_day") == []


# Days.


def test_a_night_over_midnight_is_paid_on_two_days(store: Store) -> None:
    midnight_s = datetime(2026, 2, 3, tzinfo=UTC).timestamp()
    lease(store, FAST, "4.00", rented_s=midnight_s - 3600, released_s=midnight_s + 3 * 3600)

    assert ask(
        store, "select day, leases, hours, usd, usd_so_far from spend_by_day order by 1"
    ) == [
        (date(2026, 2, 2), 1, 1.0, Decimal(1), Decimal(1)),
        (date(2026, 2, 3), 1, 3.0, Decimal(3), Decimal(4)),
    ]


@settings(max_examples=6, deadline=None)
@given(
    lives=st.lists(
        st.tuples(
            st.decimals(0, 90, places=6), st.floats(0, 90_000), st.floats(0, 400_000) | st.none()
        ),
        min_size=1,
        max_size=5,
    )
)
def test_days_add_up_to_the_leases_whenever_they_begin_and_end(
    lives: list[tuple[Decimal, float, float | None]],
) -> None:
    with TemporaryDirectory() as folder:
        store = Store.open(f"{folder}/store", create=True)
        for number, (usd, begins_s, lived_s) in enumerate(lives):
            ends_s = None if lived_s is None else T_S + begins_s + lived_s
            lease(
                store, f"host-{number}", str(usd),
                rented_s=T_S + begins_s, ready_s=None, released_s=ends_s,
            )  # fmt: skip

        [(by_day, hours, least)] = ask(
            store, "select sum(usd), sum(hours), min(usd) from spend_by_day"
        )

    assert by_day == sum(usd for usd, _, _ in lives)
    assert hours == pytest.approx(sum(lived or 0 for _, _, lived in lives) / 3600, abs=1e-6)
    assert least >= 0


# Waste by the clock.


def test_the_clock_tells_what_a_machine_was_paid_for(store: Store) -> None:
    ours = lease(store, FAST, "1.00", busy_s=200.0)  # 100 s to start, 900 s up
    other = lease(store, SLOW, "1.00", busy_s=50.0)
    commit(
        store,
        [
            tried(1, attempt(1, ours, FAST, at_s=(T_S + 100, T_S + 300))),
            # Handed out behind the first: it was at work from where that ended.
            tried(2, attempt(2, ours, FAST, at_s=(T_S + 110, T_S + 400), status="failed",
                             fault=Fault.MACHINE, error="torn")),
            tried(3, attempt(3, ours, FAST, at_s=(T_S + 400, T_S + 450), status="cancelled"),
                  attempt(3, other, SLOW, at_s=(T_S + 390, T_S + 440))),
        ],
    )  # fmt: skip

    [found] = ask(
        store,
        "select startup_s, rendering_s, failed_s, hedged_s, idle_s, usd_startup, usd_rendering, "
        "usd_failed, usd_hedged, usd_idle from waste where host = 'fast.example'",
    )

    assert found[:5] == (100.0, 200.0, 100.0, 50.0, 550.0)
    assert found[5:] == tuple(Decimal(usd) for usd in ("0.1", "0.2", "0.1", "0.05", "0.55"))


def test_a_machine_that_never_came_up_was_starting_all_the_time(store: Store) -> None:
    lease(store, IDLE, "0.50", ready_s=None, busy_s=0.0)
    lease(store, SLOW, "0.25", ready_s=None, released_s=None, busy_s=0.0)

    assert ask(store, "select startup_s, usd_startup, usd_idle from waste order by 1 desc") == [
        (1000.0, Decimal("0.5"), 0),
        (0.0, Decimal("0.25"), 0),  # nobody knows when it ended
    ]


# Machines.


def test_every_host_has_its_card(store: Store) -> None:
    quick, slow = lease(store, FAST, "1.00"), lease(store, SLOW, "0.50")
    lease(store, IDLE, "0.10", ready_s=None, busy_s=0.0)
    lease(store, FAST, "1.00", rented_s=T_S + 5000, ready_s=T_S + 5200, released_s=T_S + 5900)
    torn = attempt(8, slow, SLOW, status="failed", fault=Fault.MACHINE, error="torn")
    gone = attempt(9, slow, SLOW, status="lost", error="no answer")
    commit(
        store,
        [
            *(tried(n, attempt(n, quick, FAST, gpu_s=2.0)) for n in range(4)),
            tried(8, torn, attempt(8, slow, SLOW, gpu_s=8.0)),
            tried(9, gone, attempt(9, quick, FAST, gpu_s=2.0)),
        ],
    )

    found = ask(
        store,
        "select host, leases, never_up, startup_s, seconds_per_job, seconds_vs_class, tries_done, "
        "tries_failed, failed_machine, tries_lost, usd from machines order by usd desc",
    )

    assert found == [
        (FAST, 2, 0, 150.0, 2.0, pytest.approx(0.5), 5, 0, 0, 0, Decimal(2)),
        (SLOW, 1, 0, 100.0, 8.0, pytest.approx(2.0), 1, 1, 1, 1, Decimal("0.5")),
        (IDLE, 1, 1, None, None, None, 0, 0, 0, 0, Decimal("0.1")),
    ]
    prices = "select usd_per_hour, usd_per_1000_jobs from machines where host = 'slow.example'"
    assert ask(store, prices) == [(Decimal("1.8"), Decimal(500))]


def test_a_machine_alone_in_its_class_has_nobody_to_be_held_against(store: Store) -> None:
    only = lease(store, FAST, "1.00")
    commit(store, [tried(1, attempt(1, only, FAST, gpu_s=2.0))])

    assert ask(store, "select seconds_per_job, seconds_vs_class from machines") == [(2.0, None)]


@pytest.mark.nights
@settings(max_examples=6, deadline=None)
@given(
    paces=st.lists(st.floats(0.01, 1e4), min_size=2, max_size=5),
    jobs=st.integers(1, 3),
)
def test_speeds_of_a_class_lie_around_one(paces: list[float], jobs: int) -> None:
    with TemporaryDirectory() as folder:
        store = Store.open(f"{folder}/store", create=True)
        settled = []
        for number, pace in enumerate(paces):
            host = f"host-{number}"
            at = lease(store, host, "1.00")
            settled += [
                tried(n, attempt(n, at, host, gpu_s=pace))
                for n in range(number * jobs, number * jobs + jobs)
            ]
        commit(store, settled)

        found = dict(ask(store, "select host, seconds_vs_class from machines"))

    mean = math.exp(sum(map(math.log, paces)) / len(paces))
    assert found == {
        f"host-{number}": pytest.approx(pace / mean) for number, pace in enumerate(paces)
    }


# What failed, what was slow, what came out twice.


def test_failures_are_grouped_by_what_is_alike_each_with_an_example(store: Store) -> None:
    at = lease(store, SLOW, "1.00")

    def broken(number: int, second: int) -> Attempt:
        when = (T_S + 100, T_S + 100 + second)
        said = f"chunk {number} is torn"
        return attempt(
            number, at, SLOW, at_s=when, status="failed", fault=Fault.MACHINE, error=said
        )

    refused = replace(failed(7), attempts=(), error="no such sampler", fault=Fault.JOB)
    commit(
        store,
        [
            tried(1, broken(1, 1), attempt(1, at, SLOW)),
            tried(2, broken(2, 2), broken(2, 3)),
            refused,
        ],
    )

    found = ask(
        store,
        "select how, fault, reason, tries, jobs, jobs_failed, jobs_done_elsewhere, hosts, "
        "example_error, example_prompt from failures order by tries desc",
    )

    assert found == [
        ("failed", "machine", "chunk # is torn", 3, 2, 1, 1, 1, "chunk 2 is torn",
         "a fox, number 2"),
        ("failed", "job", "no such sampler", 0, 1, 1, 0, 0, "no such sampler", "a fox, number 7"),
    ]  # fmt: skip


def test_the_slowest_jobs_stand_out_from_what_is_usual_for_their_workflow(store: Store) -> None:
    at = lease(store, SLOW, "1.00")
    commit(
        store,
        [tried(n, attempt(n, at, SLOW, gpu_s=30.0 if n == 3 else 2.0)) for n in range(130)],
    )

    found = ask(store, "select job_id, times_usual, usual_s, usual_of_jobs from slowest")

    assert len(found) == 100
    assert max(found, key=lambda row: float(row[1])) == (done(3).job.id, 15.0, 2.0, 130)


def test_the_same_pixels_of_two_seeds_are_found_and_those_of_one_seed_are_not(
    store: Store,
) -> None:
    once, twin = done(1), done(2)
    alike = [showing(done(number), "5ee" * 10) for number in (4, 5)]
    commit(store, [once, replace(twin, outputs=once.outputs), done(3), *alike])
    commit(store, [reused(done(3).job, done(3).outputs, now_s=T_S)], OTHER)

    found = ask(
        store,
        "select same, files, seeds, jobs, batches, prompts, example_seeds, len(example_uris) "
        "from duplicates order by seeds, same",
    )

    by_pixels = ("5ee" * 10, 2, 2, 2, 1, 2, [4, 5], 2)
    by_bytes = (once.outputs[0].facts.sha256, 1, 2, 2, 1, 2, [1, 2], 2)
    assert sorted(found) == sorted([by_pixels, by_bytes])


def showing(settled: Settled, pixels: str) -> Settled:
    """With a picture of these pixels, whatever else its file carries."""
    [output] = settled.outputs
    return replace(settled, outputs=(replace(output, facts=replace(output.facts, pixels=pixels)),))


def test_progress_says_how_far_a_batch_is_and_what_it_cost(store: Store) -> None:
    start = begun(store, jobs=5)
    lease(store, FAST, "1.00")
    commit(store, [done(1), failed(2), reused(done(3).job, done(3).outputs, now_s=T_S)])

    found = ask(
        store,
        "select batch, jobs_total, done, reused, failed, jobs_left, settled_fraction, images, "
        "jobs_per_minute, eta_s, usd, exit_code from progress",
    )

    assert found == [
        ("night", 5, 1, 1, 1, 2, 0.6, 1, 0.0, None, Decimal("1.0001"), None),
    ]
    write_batch_end(store.blobs, start, BatchEnd(T_S, 1, 1, 1, 3))
    assert ask(store, "select exit_code, ended_at is not null from progress") == [(3, True)]


def test_the_pace_is_that_of_the_newest_run_and_of_one_that_is_over_there_is_none(
    store: Store,
) -> None:
    now_s = datetime.now(UTC).timestamp()
    earlier = replace(begun(store, jobs=100), started_s=now_s - 250)
    second = replace(BATCH, epoch=2)
    newest = replace(earlier, batch=second, started_s=now_s - 120)
    write_batch_start(store.blobs, newest)
    commit(store, [replace(done(number), finished_s=now_s - 200) for number in range(30, 40)])
    new = [
        *(replace(done(number), finished_s=now_s - 60) for number in range(30)),
        *(replace(done(number), finished_s=now_s + 9000) for number in range(40, 50)),
    ]
    commit(store, new, second)

    [(pace, eta_s, settled)] = ask(store, "select jobs_per_minute, eta_s, done from progress")
    write_batch_end(store.blobs, newest, BatchEnd(now_s, 50, 0, 0, 3))
    over = ask(store, "select jobs_per_minute, eta_s, jobs_left from progress")

    assert settled == 50
    # 30 jobs in a little more than the two minutes that it works by now.
    assert pace == pytest.approx(15, rel=0.5)
    assert pace <= 15
    assert eta_s == pytest.approx(60 * 50 / pace)
    assert over == [(0.0, None, 50)]


# Anybody's DuckDB.

PLAIN = """
import sys
import duckdb
assert not any(name.split(".")[0] == "nightkiln" for name in sys.modules)
for con in (duckdb.connect("nightkiln.duckdb", read_only=True), duckdb.connect()):
    if not con.sql("select 1 from duckdb_views() where view_name = 'jobs'").fetchall():
        con.execute(open("views.sql").read())
    for view in sys.argv[1:]:
        print(view, con.execute(f"select count(*) from {view}").fetchone()[0])
    con.close()
"""


def test_every_view_answers_in_plain_duckdb_on_a_folder_from_both_files(store: Store) -> None:
    begun(store)
    at = lease(store, FAST, "1.00")
    commit(store, [tried(1, attempt(1, at, FAST)), done(2), failed(3)])
    store.refresh_views()

    said = subprocess.run(
        [sys.executable, "-I", "-c", PLAIN, *VIEWS],
        cwd=store.root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()

    assert len(said) == 2 * len(VIEWS)
    assert said[: len(VIEWS)] == said[len(VIEWS) :]
    counts = dict(line.split() for line in said)
    assert {view: counts[view] for view in ("jobs", "leases", "progress", "failures")} == {
        "jobs": "3",
        "leases": "1",
        "progress": "1",
        "failures": "1",
    }
