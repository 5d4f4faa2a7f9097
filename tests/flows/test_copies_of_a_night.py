"""Nights that are deployed under names of their own are resumed as ``nightly`` is."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from nightkiln.testing.samples import write_catalog

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SHIPPED = Path(__file__).resolve().parents[2] / "deploy" / "automations.yaml"
RESUMES = "nightkiln: a crashed batch is resumed once"


def crash_of(flow: str, deployment: str, *tags: str) -> Any:
    """As Prefect's server tells itself of a run that has crashed."""
    from prefect.server.events.schemas.events import ReceivedEvent

    related = [("flow", flow), ("deployment", deployment)]
    return ReceivedEvent.model_validate(
        {
            "id": uuid4(),
            "occurred": datetime.now(UTC),
            "event": "prefect.flow-run.Crashed",
            "resource": {"prefect.resource.id": f"prefect.flow-run.{uuid4()}"},
            "related": [
                {
                    "prefect.resource.role": role,
                    "prefect.resource.id": f"prefect.{role}.{uuid4()}",
                    "prefect.resource.name": name,
                }
                for role, name in related
            ]
            + [
                {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{tag}"}
                for tag in tags
            ],
        }
    )


def test_a_crash_is_answered_by_its_flow_and_our_tag_whatever_its_deployment_is_called() -> None:
    from prefect.server.events.schemas.automations import AutomationCore, EventTrigger

    [shipped] = [one for one in yaml.safe_load(SHIPPED.read_text()) if one["name"] == RESUMES]
    shipped["actions"][0]["deployment_id"] = str(uuid4())
    trigger = AutomationCore.model_validate(shipped).trigger
    assert isinstance(trigger, EventTrigger)

    assert trigger.covers(crash_of("nightly", "nightly", "nightkiln", "nightly"))
    assert trigger.covers(crash_of("nightly", "portraits", "nightkiln"))
    assert trigger.covers(crash_of("adhoc", "adhoc", "nightkiln", "adhoc"))
    assert not trigger.covers(crash_of("nightly", "nightly", "somebodys")), "a stranger's flow"
    assert not trigger.covers(crash_of("share", "share", "nightkiln")), "its night sees to it"
    assert not trigger.covers(crash_of("resume", "resume", "nightkiln"))


async def test_a_crashed_copy_of_the_night_goes_on_as_the_night_it_was(tmp_path: Path) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
    from prefect.states import Crashed

    from flows.resume import resume

    folder = write_catalog(tmp_path / "sample", 1)
    params = {"catalog": str(folder), "store": str(tmp_path / "store")}
    async with get_client() as client:
        flow_id = await client.create_flow_from_name("nightly")
        name = f"portraits-{uuid4().hex[:6]}"
        deployment = await client.create_deployment(flow_id, name, tags=["nightkiln"])
        run = await client.create_flow_run_from_deployment(
            deployment, parameters={"params": params}
        )
        await client.set_flow_run_state(run.id, Crashed(), force=True)

        resuming: Any = resume
        state = await resuming(f"prefect.flow-run.{run.id}", return_state=True)

        of_it = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
        runs = await client.read_flow_runs(deployment_filter=of_it)
        await client.delete_deployment(deployment)

    assert state.is_completed(), state.message
    [again] = [each for each in runs if each.id != run.id]
    assert f"resumes:{run.id}" in again.tags
    assert again.parameters["params"]["name"].startswith("sample-20"), "a night has a date"
