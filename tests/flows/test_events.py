"""Events on a real Prefect server."""

from __future__ import annotations

import logging
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from nightkiln.testing.waiting import until
from tests.flows.asked import events_of

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


async def test_an_event_arrives_with_its_batch_its_run_and_a_payload_that_is_plain() -> None:
    from prefect import flow
    from prefect.runtime import flow_run

    from tasks.events import emitted
    from tasks.results import RESULTS

    batch = f"night-{uuid4().hex[:8]}"

    @flow(name="telling", retries=0, persist_result=False, result_storage=RESULTS)
    async def telling() -> str:
        assert emitted(
            "nightkiln.lease.lost",
            batch=batch,
            lease_id="night-1-lease-000",
            why="x" * 1000,
            jobs_done=Decimal(3),
            host=Path("/dev/gpu"),
        )
        return str(flow_run.get_id())

    running: Any = telling
    run_id = await running()

    async def has_come() -> bool:
        return len(await events_of(batch)) == 1

    await until(has_come, within_s=60)
    [event] = await events_of(batch)
    assert event["event"] == "nightkiln.lease.lost"
    assert f"prefect.flow-run.{run_id}" in {one["prefect.resource.id"] for one in event["related"]}
    assert event["payload"] == {
        "lease_id": "night-1-lease-000",
        "why": "x" * 500,
        "jobs_done": 3.0,
        "host": "/dev/gpu",
    }


def test_what_is_no_event_of_ours_is_told_to_nobody_and_breaks_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from tasks.events import emitted

    with caplog.at_level(logging.WARNING):
        assert not emitted("nightkiln.batch.vanished", batch="night")
        assert emitted("nightkiln.budget.reached", batch=f"night-{uuid4().hex}", colour="red")

    assert "has no fields colour" in caplog.text
