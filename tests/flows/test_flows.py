"""The flows on a real Prefect server: states, task runs and artifacts as the UI shows them."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import signal
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from nightkiln.settings import Settings
from nightkiln.store.store import Store
from nightkiln.story import read_story
from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.priced import PricedWorkers
from nightkiln.testing.samples import write_catalog
from nightkiln.testing.waiting import until
from nightkiln.wiring import Request, chosen_catalog, run_batch
from tests.flows.asked import events_of

pytestmark = [
    pytest.mark.prefect,
    # Prefect's own, and its database driver's.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ROOT = Path(__file__).resolve().parents[2]


async def ran(kind: str, folder: Path, store: Path, *workers: StandIn, **params: Any) -> Any:
    """Final state of a flow run, however it ended."""
    from tasks.options import LocalOptions
    from tasks.params import BatchParams

    flow = getattr(importlib.import_module(f"flows.{kind}"), kind)
    options = LocalOptions(worker_urls=[server.url for server in workers])
    return await flow(
        BatchParams(catalog=folder, store=str(store), options=options, **params),
        return_state=True,
    )


async def task_runs(state: Any, count: int) -> Mapping[str, Any]:
    """Task runs of a flow run by name, once the server has recorded so many as ended."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    run_filter = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    runs: list[Any] = []
    async with get_client() as client:

        async def are_recorded() -> bool:
            runs[:] = await client.read_task_runs(flow_run_filter=run_filter)
            return len([run for run in runs if run.state and run.state.is_final()]) >= count

        await until(are_recorded)  # the server gets to it within seconds
    return {run.name: run for run in runs}


async def run_of(state: Any) -> Any:
    """What the list of runs shows."""
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        return await client.read_flow_run(state.state_details.flow_run_id)


async def name_of_run(state: Any) -> str:
    """What a run is called."""
    return str((await run_of(state)).name)


async def artifacts(state: Any) -> Mapping[str, Any]:
    """What the flow run leaves to look at, by key."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    run_id = ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id])
    async with get_client() as client:
        found = await client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=run_id))
    assert len({artifact.key for artifact in found}) == len(found)
    return {str(artifact.key): artifact for artifact in found}


async def test_a_nightly_shows_one_task_run_per_lease_and_what_came_of_it(tmp_path: Path) -> None:
    folder, store = write_catalog(tmp_path / "catalog", 12), tmp_path / "store"
    async with StandIn(render_s=0.02) as one, StandIn(render_s=0.02) as two:
        state = await ran("nightly", folder, store, one, two)
    leases = {f"local {each.url.removeprefix('http://')} #{n}" for n, each in ((1, one), (2, two))}

    assert state.is_completed(), state.message
    assert state.message.startswith("batch sample-20")
    assert "12 of 12 jobs done" in state.message
    runs = await task_runs(state, 4)
    assert set(runs) == leases | {"receipt", "gallery"}
    assert all(run.state.is_completed() for run in runs.values())
    done = [int(runs[name].state.message.split()[0]) for name in leases]
    assert sum(done) == 12
    left = await artifacts(state)
    pages = ("progress", "fleet", "receipt", "gallery")
    assert set(left) == {f"nightkiln-{page}" for page in pages}
    assert left["nightkiln-progress"].data == 100
    assert "| cost of all runs | 0.00 USD |" in left["nightkiln-receipt"].data
    assert left["nightkiln-fleet"].data.startswith("2 released\n")


@pytest.mark.nights
async def test_a_run_is_named_after_the_date_of_its_batch_where_the_night_is(
    tmp_path: Path,
) -> None:
    """These two places are 25 hours apart, so it is never the same day there."""
    dates = {}
    for timezone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        folder, store = write_catalog(tmp_path / "sample", 1), tmp_path / timezone
        async with StandIn() as server:
            state = await ran("nightly", folder, store, server, timezone=timezone)
        with Store.open(str(store)).connect() as con:
            [(batch,)] = con.execute("select batch from batches").fetchall()
        dates[timezone] = batch.removeprefix("sample-")
        assert await name_of_run(state) == f"sample {dates[timezone]}"

    east, west = dates.values()
    assert east > west


async def test_what_a_flow_is_held_to_is_what_the_run_is_held_to(tmp_path: Path) -> None:
    folder, store = write_catalog(tmp_path / "sample", 1), tmp_path / "store"
    goals = {"by": "2h", "budget": 2.5, "fallback": "never", "late": "finish", "at_cap": "cancel"}
    async with StandIn() as server:
        state = await ran("adhoc", folder, store, server, name="held", **goals)
        late = await ran("adhoc", folder, store, server, name="late", by="2020-01-01T07:00")

    assert state.is_completed()
    run = await run_of(state)
    assert run.name == "held by 2h <= $2.50"
    assert set(run.tags) == {"catalog:sample", "provider:local"}
    [story] = Store.open(str(store)).story_paths("held")
    opening, _ = read_story(story)
    terms = opening.terms
    assert terms.deadline_s is not None
    assert terms.deadline_s - opening.clock_s == pytest.approx(7200, abs=60)
    assert (str(terms.budget), terms.fallback, terms.late, terms.at_cap) == (
        "2.5", "never", "finish", "cancel",
    )  # fmt: skip
    assert late.is_failed()
    assert "--by 2020-01-01T07:00: is not in the future" in late.message


async def test_a_time_zone_that_is_none_is_said_by_the_run_and_not_by_its_name(
    tmp_path: Path,
) -> None:
    folder = write_catalog(tmp_path / "sample", 1)
    async with StandIn() as server:
        state = await ran("nightly", folder, tmp_path / "s", server, timezone="Europe/Atlantis")

    assert state.is_failed()
    assert "'Europe/Atlantis' is no time zone" in state.message
    assert await name_of_run(state) == f"sample {datetime.now(UTC):%Y-%m-%d}"


@pytest.mark.nights
async def test_a_lost_machine_is_a_red_task_run_of_a_completed_flow(tmp_path: Path) -> None:
    folder = write_catalog(tmp_path / "catalog", 12)
    async with StandIn(render_s=0.02) as good, StandIn(faults=("die@3",)) as mortal:
        batch = f"mortal-{uuid4().hex[:8]}"
        state = await ran("adhoc", folder, tmp_path / "store", good, mortal, name=batch)

    assert state.is_completed(), state.message
    runs = await task_runs(state, 3)
    lost = runs[f"local {mortal.url.removeprefix('http://')} #2"]
    assert (lost.state.type.value, lost.state.name) == ("FAILED", "Lost")
    assert "jobs done, 0 attempts failed: " in lost.state.message

    async def are_told() -> bool:
        return len(await events_of(batch)) >= 3

    await until(are_told, within_s=60)
    told = {event["event"]: event["payload"] for event in await events_of(batch)}
    assert set(told) == {
        "nightkiln.batch.started", "nightkiln.lease.lost", "nightkiln.batch.finished",
    }  # fmt: skip
    assert told["nightkiln.batch.started"]["left"] == 12
    assert told["nightkiln.lease.lost"]["provider"] == "local"
    assert (told["nightkiln.batch.finished"]["done"], told["nightkiln.batch.finished"]["left"]) == (
        12, 0,
    )  # fmt: skip


async def test_failed_jobs_fail_the_flow_and_are_listed_by_reason(tmp_path: Path) -> None:
    folder = write_catalog(tmp_path / "catalog", 2)
    async with StandIn(faults=("error",)) as server:
        state = await ran("adhoc", folder, tmp_path / "store", server)

    assert state.is_failed()
    assert "2 failed" in state.message
    left = await artifacts(state)
    [reason] = json.loads(left["nightkiln-failures"].data)
    assert (reason["fault"], reason["jobs"]) == ("unknown", 2)
    assert "ValueError" in reason["reason"]


async def test_a_wrong_catalog_starts_nothing_and_every_problem_is_in_the_message(
    tmp_path: Path,
) -> None:
    rows: list[dict[str, Any]] = [{"id": "a", "prompt": None}, {"id": "a", "prompt": "a fox"}]
    folder = write_catalog(tmp_path / "catalog", rows)
    async with StandIn() as server:
        state = await ran("nightly", folder, tmp_path / "store", server)
        assert server.submitted == []

    assert state.is_failed()
    assert len(state.message.splitlines()) == 2
    assert "prompt" in state.message
    assert "id" in state.message
    assert not (tmp_path / "store").exists()


async def test_a_flow_that_is_told_to_end_hands_over_what_is_made(tmp_path: Path) -> None:
    """As when somebody presses Cancel: Prefect then sends SIGTERM."""
    folder, store = write_catalog(tmp_path / "catalog", 40), tmp_path / "store"
    before = signal.getsignal(signal.SIGTERM)
    async with StandIn(render_s=0.05) as server:
        running = asyncio.create_task(ran("adhoc", folder, store, server))
        await until(lambda: len(server.renders) >= 3)
        os.kill(os.getpid(), signal.SIGTERM)
        state = await running
        made = len(server.renders)

    assert state.is_cancelled()
    assert "stopped by SIGTERM" in state.message
    with Store.open(str(store)).connect() as con:
        assert con.execute("select count(*) from jobs").fetchall() == [(made,)]
        assert con.execute("select count(*) from leases").fetchall() == [(1,)]
    assert signal.getsignal(signal.SIGTERM) is before


async def test_a_flow_that_is_cancelled_gives_back_what_it_rented(tmp_path: Path) -> None:
    """As above, where machines cost money: Prefect kills half a minute after it has asked."""
    from prefect import flow
    from prefect.client.schemas.objects import State

    from tasks.batch import batch
    from tasks.params import BatchParams
    from tests.e2e.rental import Rental, Service

    folder, store = write_catalog(tmp_path / "catalog", 40), tmp_path / "store"

    @flow(name="renting", retries=0, persist_result=False)
    async def renting() -> State[None]:
        return await batch(params, is_nightly=False, rents_from={"cloud": Rental(service)})

    running: Any = renting
    params = BatchParams(catalog=folder, store=str(store), budget=20.0)
    async with StandIn(render_s=0.05) as server:
        service = Service([server.url])
        asked = asyncio.create_task(running(return_state=True))
        await until(lambda: len(server.renders) >= 3 or asked.done(), within_s=60)
        assert not asked.done(), asked.result().message  # else nobody would hear the signal
        os.kill(os.getpid(), signal.SIGTERM)
        state = await asked

    assert state.is_cancelled(), state.message
    assert service.rents
    assert service.rented == {}


async def test_a_prefect_server_that_is_gone_costs_the_batch_nothing(tmp_path: Path) -> None:
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    from tasks.showing.observer import PrefectObserver

    catalog = chosen_catalog(write_catalog(tmp_path / "catalog", 4))
    gone = {PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_CLIENT_MAX_RETRIES: 0}
    async with StandIn() as server:
        settings = Settings(store=str(tmp_path / "store"), worker_urls=(server.url,))
        with temporary_settings(gone):
            async with PrefectObserver(logging.getLogger("nobody")) as observer:
                outcome = await run_batch(Request(catalog, name="n"), settings, observer)

    assert (outcome.exit_code, outcome.done) == (0, 4)


@pytest.mark.nights
async def test_a_flow_refuses_a_quote_above_its_budget_and_says_so_in_its_state(
    tmp_path: Path,
) -> None:
    from prefect import flow
    from prefect.client.schemas.objects import State

    from tasks.batch import batch
    from tasks.params import BatchParams
    from tasks.results import RESULTS

    folder, store = write_catalog(tmp_path / "catalog", 12), tmp_path / "store"

    @flow(name="renting", retries=0, persist_result=False, result_storage=RESULTS)
    async def renting(budget: float) -> State[None]:
        params = BatchParams(catalog=folder, store=str(store), budget=budget, name="night")
        rents_from = {"cloud": PricedWorkers([worker.url])}
        return await batch(params, is_nightly=False, rents_from=rents_from)

    running: Any = renting
    async with StandIn() as worker:
        refused = await running(0.001, return_state=True)
        taken = await running(2.5, return_state=True)

    assert refused.is_failed()
    assert "--budget 0.001: is less than" in refused.message
    assert "what would fit: --budget 0.0" in refused.message
    assert taken.is_completed(), taken.message
    left = await artifacts(taken)
    assert left["nightkiln-quote"].data.startswith("**It fits the budget.**")
    assert "|  | quote | p50 0.0" in left["nightkiln-receipt"].data
    with Store.open(str(store)).connect() as con:
        verdicts = con.execute("select verdict from quotes order by epoch").fetchall()
    assert verdicts == [("refused",), ("taken",)]
