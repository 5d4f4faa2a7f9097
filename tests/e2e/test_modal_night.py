"""Whole batches on the fake Modal: real SDK, the real app, everything a user's run does."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from math import inf
from pathlib import Path
from typing import Any

import duckdb
import pytest

from nightkiln.catalog import load_catalog
from nightkiln.core.errors import BadInput
from nightkiln.core.reaping import Cause
from nightkiln.gate import unquoted
from nightkiln.lease_book import Entry, LeaseBook
from nightkiln.night import ALL_DONE, STOPPED_EARLY, Outcome, StopSwitch
from nightkiln.observers import JsonLines
from nightkiln.places import modal_terms
from nightkiln.settings import Settings, load_settings
from nightkiln.sweeping import swept
from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.modal import CallSeen, FakeModal
from nightkiln.testing.samples import write_catalog
from nightkiln.wiring import Request, run_batch
from tests.adapters.modal_world import (
    JOB,
    OTHER,
    QUICK,
    TERMS,
    Behind,
    a_modal,
    a_provider,
    all_ended,
    attempt,
    deployed,
    lease_id,
    open_calls,
    until,
)
from tests.adapters.modal_world import NEED as ANY

JOBS = 6
BUDGET = "5"
MODEL = {"path": "checkpoints/tiny.safetensors", "url": "https://example.org/tiny"}
BEHIND = Behind()
CHILD_S_MAX = 60.0
# A run in a process of its own, to be killed.
CHILD = """
import asyncio, sys
from pathlib import Path
from tests.e2e.test_modal_night import Batch
asyncio.run(Batch(Path(sys.argv[1])).run())
"""


@dataclass
class Batch:
    """One batch in a folder, run as often as wanted."""

    folder: Path
    jobs: int = JOBS
    heard: io.StringIO = field(default_factory=io.StringIO)

    def settings(self, **changes: Any) -> Settings:
        usual = {
            "store": str(self.folder / "store"),
            "state": str(self.folder / "state"),
            "providers": ["modal"],
            "budget": BUDGET,
        }
        return load_settings(**{**usual, **changes})

    def write(self) -> None:
        environment = {"comfyui": "0.3.75", "models": [MODEL]}
        write_catalog(self.folder / "catalog", self.jobs, environment=environment)

    async def run(self, switch: StopSwitch | None = None, **changes: Any) -> Outcome:
        return await run_batch(
            Request(load_catalog(self.folder / "catalog"), name="night"),
            self.settings(**changes),
            JsonLines(self.heard),
            switch=switch,
            gate=unquoted,
        )

    def events(self, name: str) -> list[dict[str, Any]]:
        """What the run has told."""
        lines = map(json.loads, self.heard.getvalue().splitlines())
        return [line for line in lines if line["event"] == name]

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """A question to the store, as anybody can ask it."""
        with duckdb.connect(str(self.folder / "store" / "nightkiln.duckdb"), read_only=True) as db:
            return db.sql(sql).fetchall()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeModal]:
    first = Batch(tmp_path_factory.mktemp("first"))
    first.write()
    with a_modal(behind=BEHIND) as modal:
        environment = load_catalog(first.folder / "catalog").environment
        deployed(modal, environment, modal_terms(first.settings()))
        yield modal


@pytest.fixture
def modal(served: FakeModal) -> Iterator[FakeModal]:
    yield served
    served.lift_faults()
    BEHIND.from_now_on()


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    made = Batch(tmp_path)
    made.write()
    return made


def most_at_once(calls: Sequence[CallSeen]) -> int:
    """How many calls were outstanding at the same time, at most."""
    return max(sum(one.begun_s <= each.begun_s < over_s(one) for one in calls) for each in calls)


def over_s(call: CallSeen) -> float:
    return call.ended_s if call.ended_s is not None else inf


async def test_a_batch_is_rendered_and_says_by_which_version_and_what_it_cost(
    modal: FakeModal, batch: Batch
) -> None:
    before = len(modal.calls)

    outcome = await batch.run()

    assert (outcome.exit_code, outcome.done) == (ALL_DONE, JOBS)
    assert outcome.usd > 0
    assert open_calls(modal) == []
    assert most_at_once(modal.calls[before:]) <= batch.settings().modal_max_containers
    [told] = batch.events("app")
    assert told["version"] == 1
    made = batch.ask("select distinct provider, gpu, host from attempts")
    assert {(provider, gpu) for provider, gpu, _ in made} == {("modal", "NVIDIA L40S")}
    assert all(" v1 git-c0ffee-env-" in host for _, _, host in made)
    [(jobs_usd, leases_usd)] = batch.ask(
        "select (select sum(usd) from jobs), (select sum(usd) from leases)"
    )
    assert abs(jobs_usd - leases_usd) < Decimal("0.01")  # each job has its share of the whole
    assert abs(leases_usd - outcome.usd) < Decimal("0.000001")


@pytest.mark.nights
async def test_a_preempted_call_is_run_again_and_its_result_counts_once(
    modal: FakeModal, batch: Batch
) -> None:
    await until(lambda: all_ended(modal))
    BEHIND.from_now_on(render_s=0.5)  # a container is taken away long before
    before = len(modal.calls)
    modal.add_faults("preempted@1x8")  # those that only wake a container, and some that render

    outcome = await batch.run()

    assert outcome.done == JOBS
    ours = modal.calls[before:]
    assert sum(one.runs for one in ours) > len(ours)  # at least once: some began twice
    [(rows, jobs)] = batch.ask("select count(*), count(distinct job_id) from jobs")
    assert (rows, jobs) == (JOBS, JOBS)


@pytest.mark.nights
async def test_a_run_that_was_killed_is_gone_on_with_and_nothing_is_paid_twice(
    modal: FakeModal, batch: Batch
) -> None:
    await until(lambda: all_ended(modal))
    BEHIND.from_now_on(render_s=1.0)

    def rendering() -> list[str]:
        """Calls of this batch that are on their way; each slot's first only wakes a container."""
        return [one for one in open_calls(modal) if one in later_calls()]

    def later_calls() -> set[str]:
        journal = batch.folder / "store"
        lines = [
            json.loads(line)
            for path in journal.rglob("*.jsonl")
            for line in path.read_text().splitlines()
        ]
        return {line["ticket"] for line in lines if line.get("kind") == "ticket"}

    child = await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, str(batch.folder))
    try:
        await until(lambda: len(rendering()) > 0, within_s=CHILD_S_MAX)
    finally:
        child.kill()
        await child.wait()

    outcome = await batch.run()

    assert outcome.done == JOBS
    [told] = batch.events("planned")
    assert told["recalled"] == 1
    tries = batch.ask("select count(*) from attempts")
    assert tries == [(JOBS,)]  # each job was tried once, by one run or the other


async def test_stopping_at_once_cancels_what_is_outstanding(modal: FakeModal, batch: Batch) -> None:
    await until(lambda: all_ended(modal))
    BEHIND.from_now_on(render_s=30.0)
    switch = StopSwitch()
    running = asyncio.create_task(batch.run(switch))
    await until(lambda: BEHIND.is_rendering, within_s=30.0)

    switch.ask("Ctrl-C", is_now=True)
    outcome = await running

    assert outcome.exit_code == STOPPED_EARLY
    assert outcome.not_released == ()
    assert open_calls(modal) == []
    await until(lambda: all_ended(modal))


async def test_a_run_that_is_cancelled_from_outside_leaves_nothing_behind(
    modal: FakeModal, batch: Batch
) -> None:
    """As a flow is that Prefect cancels."""
    await until(lambda: all_ended(modal))
    BEHIND.from_now_on(render_s=30.0)
    running = asyncio.create_task(batch.run())
    await until(lambda: BEHIND.is_rendering, within_s=30.0)

    running.cancel()
    await asyncio.wait([running])

    assert open_calls(modal) == []
    await until(lambda: all_ended(modal))


async def test_a_run_refuses_an_app_for_another_environment_before_it_starts(
    modal: FakeModal, batch: Batch
) -> None:
    write_catalog(
        batch.folder / "catalog", JOBS, environment={"comfyui": OTHER.comfyui, "models": [MODEL]}
    )
    containers = len(modal.containers)

    with pytest.raises(BadInput, match="deployed for another environment"):
        await batch.run()

    assert len(modal.containers) == containers


async def test_beside_others_a_run_goes_on_without_modal_and_says_so_at_the_start(
    batch: Batch,
) -> None:
    async with StandIn() as comfy:
        with a_modal() as empty:  # nothing was deployed there
            outcome = await batch.run(providers=["local", "modal"], worker_urls=[comfy.url])

            assert list(empty.containers) == []
    assert outcome.exit_code == ALL_DONE
    [told] = batch.events("app")
    assert "not deployed" in told["problem"]


# What a controller that dies can leave behind, in money.

SLOTS = 20


async def abandoned(modal: FakeModal, state: Path, book: LeaseBook | None = None) -> None:
    """Hand over as many calls as there are slots, and be gone."""
    terms = replace(TERMS, max_containers=SLOTS)
    async with a_provider(modal, state, terms) as provider:
        offers = await provider.offers(ANY, limit=SLOTS)
        until_s = time.time() + 3600.0
        desk = provider._desk(await provider.ready())
        for number, offer in enumerate(offers):
            if book is not None:
                now_s = time.time()
                book.intend(Entry(lease_id(number), "night", 1, "/gone", offer, now_s, until_s))
            lease = await provider.rent(offer, lease_id(number), ANY, expires_at_s=until_s)
            slot = provider._slots[lease.id]
            await desk.hand_over(
                slot, attempt(number), lambda at: provider._asking.render(JOB, [], expires_at_s=at)
            )
        assert len(open_calls(modal)) <= SLOTS + 1


@pytest.mark.nights
async def test_twenty_calls_of_a_dead_run_on_an_image_that_cannot_start_cost_one_start_each(
    tmp_path: Path,
) -> None:
    rules = replace(QUICK, cold_s=(30.0, 30.0), containers_max=100)
    with a_modal(rules=rules, behind=Behind(is_there=False)) as modal:
        deployed(modal, terms=replace(TERMS, max_containers=SLOTS))
        await abandoned(modal, tmp_path)

        await until(lambda: open_calls(modal) == [] and all_ended(modal), within_s=60.0)

        story_s = float(modal.billing.seconds) * modal.speed
        print(f"{SLOTS} calls: {len(modal.containers)} starts, {story_s:.0f} container seconds")
        assert len(modal.containers) <= SLOTS
        assert story_s <= SLOTS * (TERMS.startup_timeout_s + TERMS.scaledown_s)


@pytest.mark.nights
async def test_a_crash_loop_after_a_death_ends_with_the_reaper(tmp_path: Path) -> None:
    rules = replace(QUICK, cold_s=(30.0, 30.0), containers_max=100)
    batch = Batch(tmp_path)
    with a_modal("crash_loop", rules=rules) as modal:
        deployed(modal, terms=replace(TERMS, max_containers=SLOTS))
        settings = batch.settings(modal_max_containers=SLOTS)
        book = LeaseBook(settings.state_folder)
        await abandoned(modal, settings.state_folder, book)
        # Each is tried again, for ever; after some crashes by one container at a time.
        await until(lambda: len(modal.containers) > SLOTS, within_s=100.0)

        found = await swept(settings, clock=lambda: time.time() + settings.deadman_s + 1.0)

        assert {one.verdict.cause for one in found.ended} == {Cause.RUN_SILENT}
        assert len(found.ended) == SLOTS
        assert open_calls(modal) == []
        await until(lambda: all_ended(modal))
        billed = modal.billing.seconds
        modal.skip(3600.0)
        assert modal.billing.seconds == billed
