"""One sweep from its parameters to the state that the flow run ends in."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import acreate_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import ConfigDict, Field

from nightkiln.core.errors import NightkilnError
from nightkiln.core.reaping import UNKNOWN_S, Fate
from nightkiln.ports.provider import Provider
from nightkiln.reap import ENDED_MAX, Swept
from nightkiln.settings import Settings, load_settings
from nightkiln.sighting import Finding
from nightkiln.sweeping import can_sweep, swept
from tasks.form import BLOCK, KeyBlocks
from tasks.secrets import secrets_of

ARTIFACT_KEY = "nightkiln-reap"
ROWS_MAX = 200  # of the table: more belongs into nightkiln leases


class ReapParams(KeyBlocks):
    """Which machines are looked at, and how many may be given back."""

    model_config = ConfigDict(title="Sweep")

    fleet: str = Field(
        "",
        pattern="^[a-z0-9]{0,12}$",
        title="Fleet",
        description="Which set-up's machines. Empty: NIGHTKILN_FLEET, else main.",
    )
    unknown_hours: float = Field(
        UNKNOWN_S / 3600,
        ge=1,
        le=10_000,
        title="Unknown for so many hours",
        description="Machines of the fleet that this computer never rented are given back when "
        "they are older than this; younger ones are only told.",
    )
    most: int = Field(
        ENDED_MAX,
        ge=1,
        le=1000,
        title="At most",
        description="Machines given back in one sweep.",
    )
    s3_block: str = Field(
        "",
        pattern=BLOCK,
        title="S3 credentials",
        description="Name of a Secret block with the credentials of stores in S3: what is given "
        "back is recorded in the store of its batch. Empty: as every AWS client finds them, where "
        "the flow runs.",
    )

    def settings(self, **secrets: str) -> Settings:
        """Settings of the environment the flow runs in, with what is given here on top."""
        return load_settings(fleet=self.fleet or None, **secrets)


async def sweep(params: ReapParams, *, asks: Mapping[str, Provider] | None = None) -> State[None]:
    """Sweep, leave a table of what was seen, and end as it went.

    Failed when a service did not answer or a machine could not be given back: nobody looks at
    night, and of a run that fails somebody is told (``tasks.failing``). ``asks``: instead of the
    providers that are set up.
    """
    try:
        settings = params.settings(**await secrets_of(params))
        if asks is None and not can_sweep(settings):
            return Completed(message="nothing to look at: no provider that bills is set up")
        found = await swept(
            settings, unknown_s=params.unknown_hours * 3600, ended_max=params.most, asks=asks
        )
    except NightkilnError as error:
        return Failed(message=str(error))
    for warning in found.warnings:
        get_run_logger().warning(warning)
    if found.sight.findings:
        table: Any = show  # Prefect's types forget that a state of an async task is awaited
        await table(found, return_state=True)
    return _state(found)


@task(name="table", cache_policy=NO_CACHE, persist_result=False, retries=0)
async def show(found: Swept) -> int:
    """Leave what was seen and done as an artifact."""
    now_s = time.time()
    rows = [_row(each, found, now_s) for each in found.sight.findings[:ROWS_MAX]]
    said = f"{len(found.sight.findings)} machines; {_counts(found)}"
    await acreate_table_artifact(rows, key=ARTIFACT_KEY, description=said)
    return len(rows)


def _row(finding: Finding, found: Swept, now_s: float) -> dict[str, Any]:
    since_s = finding.since_s
    done = "given back" if finding in found.ended else "closed" if finding in found.closed else ""
    return {
        "lease": finding.lease_id,
        "provider": finding.provider,
        "usd_per_hour": float(finding.usd_per_hour),
        "hours": round((now_s - since_s) / 3600, 2) if since_s is not None else None,
        "verdict": finding.verdict.fate.value,
        "why": finding.verdict.said,
        "done": found.failed.get(finding.lease_id, done),
    }


def _counts(found: Swept) -> str:
    kept, foreign = found.sight.of(Fate.KEEP), found.sight.of(Fate.FOREIGN)
    return (
        f"{len(found.ended)} given back, {len(found.closed)} were gone, {len(kept)} in use, "
        f"{len(foreign)} not ours"
    )


def _state(found: Swept) -> State[None]:
    troubles = [
        f"{name}: not known what is billed: {why}" for name, why in found.sight.errors.items()
    ]
    troubles += [f"{lease_id} is NOT given back: {why}" for lease_id, why in found.failed.items()]
    if found.left:
        troubles.append(f"{found.left} more are left for the next sweep")
    said = "; ".join((_counts(found), *troubles))
    return Failed(message=said) if troubles else Completed(message=said)
