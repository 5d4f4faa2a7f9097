"""The flows on a real Prefect server: states, task runs and artifacts as the UI shows them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.samples import write_catalog
from nightkiln.testing.waiting import until

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.xdist_group("prefect"),
    # Prefect's own, and its database driver's.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ROOT = Path(__file__).resolve().parents[2]


async def ran(flow: Any, **params: Any) -> Any:
    """Final state of a flow run, however it ended."""
    from tasks.batch import BatchParams

    return await flow(BatchParams(**params), return_state=True)


async def runs_of(state: Any) -> tuple[list[Any], list[Any]]:
    """Task runs and artifacts that the server has of a flow run."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        ArtifactFilter,
        ArtifactFilterFlowRunId,
        FlowRunFilter,
        FlowRunFilterId,
    )

    run_id = state.state_details.flow_run_id
    async with get_client() as client:
        tasks = await client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
        )
        artifacts = await client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
        )
    return list(tasks), list(artifacts)


def test_the_prefect_server_can_be_imported() -> None:
    """It cannot with a newer FastAPI than the lock's."""
    assert importlib.import_module("prefect.server.api.server").create_app


async def test_a_nightly_renders_everything_and_says_so(tmp_path: Path) -> None:
    from flows.nightly import nightly

    folder = write_catalog(tmp_path / "catalog", 12)
    async with StandIn() as one, StandIn() as two:
        state = await ran(
            nightly, catalog=folder, store=str(tmp_path / "store"), worker_urls=[one.url, two.url]
        )

    assert state.is_completed(), state.message
    assert "12 of 12 jobs done" in state.message
    assert state.message.startswith("sample-20")


async def test_the_ui_sees_one_task_run_per_lease_and_the_outcome(tmp_path: Path) -> None:
    from flows.adhoc import adhoc

    folder = write_catalog(tmp_path / "catalog", 12)
    async with StandIn(render_s=0.02) as one, StandIn(render_s=0.02) as two:
        urls = [one.url, two.url]
        state = await ran(adhoc, catalog=folder, store=str(tmp_path / "s"), worker_urls=urls)

    async def is_recorded() -> bool:
        return len((await runs_of(state))[0]) == 3

    await until(is_recorded)  # the server records task runs when it gets to it
    tasks, artifacts = await runs_of(state)
    names = sorted(run.name for run in tasks)
    assert len([name for name in names if name.startswith("local 127.0.0.1:")]) == 2
    assert {artifact.type for artifact in artifacts} >= {"progress", "markdown"}


async def test_a_lost_machine_shows_and_the_batch_is_done_all_the_same(tmp_path: Path) -> None:
    from flows.adhoc import adhoc

    folder = write_catalog(tmp_path / "catalog", 12)
    async with StandIn(render_s=0.02) as good, StandIn(faults=("die@3",)) as mortal:
        urls = [good.url, mortal.url]
        state = await ran(adhoc, catalog=folder, store=str(tmp_path / "s"), worker_urls=urls)

    assert state.is_completed(), state.message


async def test_a_flow_whose_jobs_fail_is_failed_and_tells_the_count(tmp_path: Path) -> None:
    from flows.adhoc import adhoc

    folder = write_catalog(tmp_path / "catalog", 2)
    async with StandIn(faults=("error",)) as server:
        state = await ran(
            adhoc, catalog=folder, store=str(tmp_path / "s"), worker_urls=[server.url]
        )

    assert state.is_failed()
    assert "2 failed" in state.message


async def test_a_flow_whose_catalog_is_wrong_starts_nothing_and_names_the_problem(
    tmp_path: Path,
) -> None:
    from flows.nightly import nightly

    rows: list[dict[str, Any]] = [{"id": "a", "prompt": None}]
    folder = write_catalog(tmp_path / "catalog", rows)
    async with StandIn() as server:
        state = await ran(
            nightly, catalog=folder, store=str(tmp_path / "s"), worker_urls=[server.url]
        )
        assert server.submitted == []

    assert state.is_failed()
    assert "prompt" in state.message
    assert not (tmp_path / "s").exists()


def test_every_deployment_names_a_flow_and_parameters_that_it_takes() -> None:
    from tasks.batch import BatchParams

    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]

    assert {deployment["name"] for deployment in deployments} == {"nightly", "adhoc"}
    for deployment in deployments:
        module, _, name = deployment["entrypoint"].partition(":")
        assert getattr(importlib.import_module(module), name).retries == 0
        params = BatchParams(**deployment["parameters"]["params"])
        assert (ROOT / params.catalog / "catalog.yaml").is_file()
