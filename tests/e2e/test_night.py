"""Whole nights on stand-in workers, in this process: every promise that a run makes."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from nightkiln.core.errors import BadInput, ClaimHeld
from nightkiln.night import Outcome, StopSwitch
from nightkiln.observers import JsonLines
from nightkiln.settings import Settings
from nightkiln.store.store import Store
from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.samples import write_catalog
from nightkiln.testing.waiting import until
from nightkiln.wiring import Request, chosen_catalog, run_batch
from tests.asking import ask as asked


class Quiet(JsonLines):
    """Remembers what it is told instead of writing it."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Mapping[str, Any]]] = []

    async def event(self, name: str, fields: Mapping[str, Any]) -> None:
        self.events.append((name, fields))


async def night(
    folder: Path,
    store: Path,
    workers: Sequence[StandIn],
    *,
    switch: StopSwitch | None = None,
    observer: Quiet | None = None,
    name: str | None = "night",
    is_fresh: bool = False,
) -> Outcome:
    settings = Settings(
        store=str(store), worker_urls=tuple(server.url for server in workers), startup_s=5.0
    )
    request = Request(chosen_catalog(folder), name=name, is_fresh=is_fresh)
    told = observer if observer is not None else Quiet()
    return await run_batch(request, settings, told, switch=switch)


def ask(store: Path, sql: str) -> list[tuple[Any, ...]]:
    return asked(Store.open(str(store)), sql)


def assert_whole(store: Path, jobs: int) -> None:
    """One row per job, every file there with its sha256, no other file."""
    assert ask(store, "select count(*), count(distinct job_id) from jobs") == [(jobs, jobs)]
    files = ask(store, "select uri, sha256, bytes from outputs")
    for uri, sha256, size in files:
        data = (store / uri).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (sha256, size)


async def test_every_row_becomes_one_verified_image(tmp_path: Path) -> None:
    folder, store = write_catalog(tmp_path / "catalog", 30), tmp_path / "store"
    async with StandIn() as one, StandIn() as two:
        outcome = await night(folder, store, [one, two])

        assert len(one.renders) + len(two.renders) == 30
    assert (outcome.exit_code, outcome.done, outcome.failed, outcome.left) == (0, 30, 0, 0)
    assert_whole(store, 30)


async def test_a_row_carries_what_one_asks_about_in_the_morning(tmp_path: Path) -> None:
    rows = [{"id": "a", "prompt": "a fox", "negative": "blurry", "category": "animals"}]
    folder, store = write_catalog(tmp_path / "catalog", rows), tmp_path / "store"
    async with StandIn(gpu_name="Tiny 9000") as server:
        await night(folder, store, [server])

    [row] = ask(
        store,
        "select prompt, negative, seed > 0, width, height, provider, gpu, status, category, id, "
        "attempt_count, gpu_seconds >= 0, finished_at >= started_at from jobs",
    )
    assert row == (
        "a fox", "blurry", True, 64, 64, "local", "Tiny 9000", "done", "animals", "a",
        1, True, True,
    )  # fmt: skip


@pytest.mark.nights
async def test_the_demo_nights_misfortunes_cost_no_job(tmp_path: Path) -> None:
    folder, store = write_catalog(tmp_path / "catalog", 40), tmp_path / "store"
    bad = ("corrupt@2", "error@4", "blank@6", "die@12")
    async with StandIn(render_s=0.02) as good, StandIn(render_s=0.02, faults=bad) as worse:
        outcome = await night(folder, store, [good, worse])

    assert (outcome.exit_code, outcome.done) == (0, 40)
    assert_whole(store, 40)
    failed = ask(store, "select count(*) from attempts where status = 'failed'")
    assert failed >= [(3,)]


async def test_a_job_that_fails_everywhere_ends_as_one_explained_failure(tmp_path: Path) -> None:
    folder, store = write_catalog(tmp_path / "catalog", 2), tmp_path / "store"
    async with StandIn(faults=("error",)) as one, StandIn(faults=("error",)) as two:
        outcome = await night(folder, store, [one, two])

    assert (outcome.exit_code, outcome.done, outcome.failed, outcome.left) == (1, 0, 2, 0)
    rows = ask(store, "select status, fault, error, attempt_count from jobs")
    for status, fault, error, attempts in rows:
        assert (status, fault, attempts) == ("failed", "unknown", 3)
        assert "ValueError" in error
    assert (
        ask(store, "select count(distinct host) > 1 from attempts group by job_id") == [(True,)] * 2
    )


async def test_the_same_command_again_does_nothing_twice(tmp_path: Path) -> None:
    folder, store = write_catalog(tmp_path / "catalog", 5), tmp_path / "store"
    async with StandIn() as server:
        first = await night(folder, store, [server])
        second = await night(folder, store, [server])

        assert len(server.renders) == 5
    assert (first.done, second.done, second.exit_code) == (5, 5, 0)
    assert second.epoch == first.epoch + 1
    assert_whole(store, 5)


async def test_another_batch_reuses_what_the_store_has(tmp_path: Path) -> None:
    folder, store = write_catalog(tmp_path / "catalog", 5), tmp_path / "store"
    async with StandIn() as server:
        await night(folder, store, [server], name="monday")
        reused = await night(folder, store, [server], name="tuesday")
        assert len(server.renders) == 5

        fresh = await night(folder, store, [server], name="wednesday", is_fresh=True)
        assert len(server.renders) == 10

    assert (reused.done, reused.reused, reused.exit_code) == (0, 5, 0)
    assert (fresh.done, fresh.reused) == (5, 0)
    uris = ask(store, "select batch, count(distinct uri) from outputs group by 1 order by 1")
    assert uris == [("monday", 5), ("tuesday", 5), ("wednesday", 5)]


async def test_rows_that_mean_the_same_pixels_are_one_job_and_both_are_remembered(
    tmp_path: Path,
) -> None:
    rows = [{"id": n, "prompt": "a fox", "note": f"note {n}"} for n in ("a", "b")]
    folder, store = write_catalog(tmp_path / "catalog", rows), tmp_path / "store"
    async with StandIn() as server:
        outcome = await night(folder, store, [server])
        assert len(server.renders) == 1

    assert outcome.total == 1
    assert ask(store, "select rows from jobs") == [([0, 1],)]
    assert ask(store, "select count(*) from catalog_rows where status = 'done'") == [(2,)]


async def test_a_stop_commits_what_is_made_and_the_next_run_does_the_rest(tmp_path: Path) -> None:
    folder, store = write_catalog(tmp_path / "catalog", 40), tmp_path / "store"
    switch = StopSwitch()
    async with StandIn(render_s=0.03) as server:
        running = asyncio.create_task(night(folder, store, [server], switch=switch))
        await until(lambda: len(server.renders) >= 5)
        switch.ask("asked by the test")
        stopped = await running
        made = len(server.renders)
        assert (stopped.exit_code, stopped.done, stopped.left) == (3, made, 40 - made)

        rest = await night(folder, store, [server])
        assert len(server.renders) == 40
    assert (rest.exit_code, rest.done) == (0, 40)
    assert_whole(store, 40)


async def test_a_stop_now_hands_running_jobs_back(tmp_path: Path) -> None:
    folder, store = write_catalog(tmp_path / "catalog", 10), tmp_path / "store"
    switch = StopSwitch()
    async with StandIn(render_s=20.0) as server:
        running = asyncio.create_task(night(folder, store, [server], switch=switch))
        await until(lambda: server.submitted)
        switch.ask("asked by the test", is_now=True)
        stopped = await running

    assert (stopped.exit_code, stopped.done, stopped.left) == (3, 0, 10)


@pytest.mark.nights
async def test_without_any_worker_the_run_says_so_and_stops(tmp_path: Path) -> None:
    folder, store = write_catalog(tmp_path / "catalog", 3), tmp_path / "store"
    async with StandIn() as gone:
        pass
    settings = Settings(store=str(store), worker_urls=(gone.url,), startup_s=0.2)

    outcome = await run_batch(Request(chosen_catalog(folder), name="n"), settings, Quiet())

    assert outcome.exit_code == 3
    assert outcome.stop_reason is not None
    assert "worker" in outcome.stop_reason


async def test_leases_are_written_down_when_they_end(tmp_path: Path) -> None:
    folder, store = write_catalog(tmp_path / "catalog", 6), tmp_path / "store"
    async with StandIn() as server:
        await night(folder, store, [server])

    [lease] = ask(store, "select provider, jobs_done, released_at >= ready_at, usd from leases")
    assert lease[:3] == ("local", 6, True)
    assert lease[3] == 0


class Saboteur(Quiet):
    """An observer that fails at everything."""

    async def event(self, name: str, fields: Mapping[str, Any]) -> None:
        raise RuntimeError(f"{name}: {fields}")


async def test_an_observer_that_fails_cannot_fail_a_batch(tmp_path: Path) -> None:
    folder, store = write_catalog(tmp_path / "catalog", 3), tmp_path / "store"
    async with StandIn() as server:
        outcome = await night(folder, store, [server], observer=Saboteur())

    assert (outcome.exit_code, outcome.done) == (0, 3)


async def test_a_catalog_that_fails_preflight_starts_nothing(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"id": "a", "prompt": "a fox"}, {"id": "b", "prompt": None}]
    folder, store = write_catalog(tmp_path / "catalog", rows), tmp_path / "store"
    async with StandIn() as server:
        with pytest.raises(BadInput, match="prompt"):
            await night(folder, store, [server])

        assert server.submitted == []
    assert not store.exists()


async def test_a_second_run_of_the_same_batch_is_told_who_has_it(tmp_path: Path) -> None:
    folder, store = write_catalog(tmp_path / "catalog", 8), tmp_path / "store"
    async with StandIn(render_s=0.05) as server:
        first = asyncio.create_task(night(folder, store, [server]))
        await until(lambda: server.submitted)
        with pytest.raises(ClaimHeld, match=str(os.getpid())):
            await night(folder, store, [server])
        assert (await first).done == 8
