"""What is told of runs that fail, on a real server: by the receipt, the refusal, or an event."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.samples import write_catalog
from nightkiln.testing.waiting import until
from tests.flows.asked import events_of, failures_of
from tests.flows.test_flows import ran

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


async def told_of(state: Any) -> dict[str, Any]:
    """The event about a run that failed, once it has come; there is one."""
    run_id = state.state_details.flow_run_id

    async def has_come() -> bool:
        return bool(await failures_of(run_id))

    await until(has_come, within_s=60)
    [event] = await failures_of(run_id)
    assert event["event"] == "nightkiln.run.failed"
    assert event["resource"]["prefect.resource.name"], "what the subject of a message says"
    assert f"prefect.flow-run.{run_id}" in {one["prefect.resource.id"] for one in event["related"]}
    return dict(event["payload"])


async def test_a_night_that_cannot_begin_is_told_with_the_reason(tmp_path: Path) -> None:
    state = await ran("nightly", tmp_path / "nowhere", tmp_path / "store")

    payload = await told_of(state)

    assert state.is_failed()
    assert payload["flow"] == "nightly"
    assert payload["why"]
    assert state.message.startswith(payload["why"][:100])


async def test_a_retry_that_cannot_begin_is_told(tmp_path: Path) -> None:
    from flows.retry import retry
    from tasks.params import RetryParams

    folder = write_catalog(tmp_path / "catalog", 1)
    retrying: Any = retry
    params = RetryParams(catalog=folder, store=str(tmp_path / "none"), name="night")
    state = await retrying(params, return_state=True)

    assert state.is_failed()
    assert (await told_of(state))["flow"] == "retry"


async def test_a_sweep_without_its_credentials_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.reap import reap
    from tasks.reap import ReapParams

    monkeypatch.setenv("NIGHTKILN_STATE", str(tmp_path / "state"))
    sweeping: Any = reap
    state = await sweeping(ReapParams(s3_block="no-such-block"), return_state=True)

    assert state.is_failed()
    payload = await told_of(state)
    assert payload["flow"] == "reap"
    assert "there is no such block" in payload["why"]


async def test_what_nobody_has_reckoned_with_is_told_and_fails_the_run_as_ever() -> None:
    from prefect import flow

    from tasks.failing import telling_of_failure
    from tasks.results import RESULTS

    @flow(name="surprising", retries=0, persist_result=False, result_storage=RESULTS)
    async def surprising() -> None:
        with telling_of_failure():
            raise ZeroDivisionError("of a day without hours")

    running: Any = surprising
    state = await running(return_state=True)

    assert state.is_failed()
    with pytest.raises(ZeroDivisionError):
        await state.result()
    payload = await told_of(state)
    assert payload == {"flow": "surprising", "why": "ZeroDivisionError: of a day without hours"}


async def test_a_run_whose_receipt_tells_of_its_failed_jobs_is_told_once(tmp_path: Path) -> None:
    folder, batch = write_catalog(tmp_path / "catalog", 1), f"night-{uuid4().hex[:8]}"
    async with StandIn(faults=("error",)) as server:
        failed = await ran("adhoc", folder, tmp_path / "store", server, name=batch)
        # Told after the first run, so the server knows all about that when it knows this.
        later = await ran("adhoc", tmp_path / "nowhere", tmp_path / "store", server)

    await told_of(later)

    assert failed.is_failed()
    assert await failures_of(failed.state_details.flow_run_id) == []
    ends = [one["event"] for one in await events_of(batch) if "finished" in one["event"]]
    assert ends == ["nightkiln.batch.finished"]
