"""Old flow runs, deleted from Prefect's database; nothing of ours is kept there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound

TAG, SWEEPS = "nightkiln", "reap"  # of prefect.yaml
SWEEPS_KEPT_DAYS = 2  # of which there are 96 a day
RUNS_MAX = 5000  # in one round
PAGE = 100


async def forget_runs(kept_days: int, *, now: datetime | None = None) -> int:
    """Delete runs of ours that ended so long ago; how many those were. 0 days keeps all.

    A run that still says Running has not ended, and is left alone.
    """
    if kept_days == 0:
        return 0
    now = now if now is not None else datetime.now(UTC)
    well = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.COMPLETED]))
    sweeps_days = min(kept_days, SWEEPS_KEPT_DAYS)
    return await _delete(
        FlowRunFilter(tags=FlowRunFilterTags(all_=[TAG]), end_time=_before(now, kept_days))
    ) + await _delete(
        FlowRunFilter(
            tags=FlowRunFilterTags(all_=[TAG, SWEEPS]),
            end_time=_before(now, sweeps_days),
            state=well,
        )
    )


def _before(now: datetime, days: int) -> FlowRunFilterEndTime:
    return FlowRunFilterEndTime(before_=now - timedelta(days=days))


async def _delete(which: FlowRunFilter) -> int:
    gone = 0
    async with get_client() as client:
        while gone < RUNS_MAX:
            runs = await client.read_flow_runs(flow_run_filter=which, limit=PAGE)
            for run in runs:
                try:
                    await client.delete_flow_run(run.id)
                except ObjectNotFound:  # somebody else was faster
                    continue
            gone += len(runs)
            if len(runs) < PAGE:
                break
    return gone
