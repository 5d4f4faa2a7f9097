"""One round of maintenance from its parameters to the state that the flow run ends in."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import acreate_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import ConfigDict, Field

from nightkiln.core.errors import NightkilnError
from nightkiln.settings import Settings, load_settings
from nightkiln.store.collecting import OLDER_THAN_S, Collectable, collectable
from nightkiln.store.compacting import GRACE_S, Compacted, compact
from nightkiln.store.verifying import REPAIR, Kind, Part, Verified, verify
from nightkiln.wiring import has_store, open_store
from tasks.form import BLOCK, TEXT, Form
from tasks.retention import forget_runs
from tasks.secrets import s3_given

ARTIFACT_KEY = "nightkiln-maintain"
ROWS_MAX = 200  # of the table: nightkiln store verify tells all
DAY_S = 24 * 3600.0
# Nothing is lost by them: they are told, and nobody is woken up.
HARMLESS = frozenset({Kind.ORPHAN})


class MaintainParams(Form):
    """Which store is looked after."""

    model_config = ConfigDict(title="Maintenance")

    store: str = Field(
        "",
        max_length=1000,
        pattern=TEXT,
        title="Store",
        description="Folder with results, or s3://bucket/prefix. Empty: NIGHTKILN_STORE, else "
        "nightkiln-store.",
    )
    grace_hours: float = Field(
        GRACE_S / 3600,
        ge=1,
        le=10_000,
        title="Grace in hours",
        description="Files that were replaced are removed so long after the new views were "
        "written: queries that run, and whoever has older views open, still read them.",
    )
    verify_nights: int = Field(
        30,
        ge=0,
        le=1000,
        title="Read everything within so many nights",
        description="Every night the next part of all images is read and held against its "
        "SHA-256; all sizes are looked at anyway. 0: none is read.",
    )
    runs_kept_days: int = Field(
        30,
        ge=0,
        le=10_000,
        title="Days that runs are kept",
        description="Flow runs with the tag nightkiln that ended before are deleted from Prefect's "
        "database, and sweeps that went well after two days. Results are in the store, of which "
        "nothing is deleted. 0: all are kept.",
    )
    s3_block: str = Field(
        "",
        pattern=BLOCK,
        title="S3 credentials",
        description="Name of a Secret block with the credentials of a store in S3. Empty: as every "
        "AWS client finds them, where the flow runs.",
    )

    def settings(self, **secrets: str) -> Settings:
        """Settings of the environment the flow runs in, with what is given here on top."""
        return load_settings(store=self.store or None, **secrets)


async def maintained(params: MaintainParams) -> State[None]:
    """Compact, look, and forget; Failed, with what to do, when something is wrong with the store.

    What cannot be done keeps nothing after it from being done.
    """
    try:
        settings = params.settings(**await s3_given(params.s3_block))
        if not await asyncio.to_thread(has_store, settings):
            return Completed(message=f"nothing to do: {settings.store} is no store yet")
    except NightkilnError as error:
        return Failed(message=str(error))
    told: list[str] = []
    troubles: list[str] = []
    for step in (_compact, _verify, _gc, _forget):
        try:
            said, is_trouble = await step(params, settings)
        except NightkilnError as error:
            said, is_trouble = str(error), True
        (troubles if is_trouble else told).append(said)
    message = "; ".join(dict.fromkeys((*troubles, *told)))
    return Failed(message=message) if troubles else Completed(message=message)


async def _compact(params: MaintainParams, settings: Settings) -> tuple[str, bool]:
    done = await compacted(settings, params.grace_hours * 3600)
    if done.was_late:
        return "another compaction was faster", False
    return (
        f"{done.shards} small files folded into {done.files}, {done.rows} rows; "
        f"{done.removed} replaced files removed"
    ), False


async def _verify(params: MaintainParams, settings: Settings) -> tuple[str, bool]:
    found = await verified(settings, params.verify_nights)
    said = f"{found.rows} results held against {found.files} files, {found.checked} of them read"
    wrong = {kind: count for kind, count in found.counts.items() if kind not in HARMLESS}
    if not wrong:
        return said, False
    table: Any = show  # Prefect's types forget that a state of an async task is awaited
    await table(found, return_state=True)
    told = ", ".join(f"{count} {kind}: {REPAIR[kind]}" for kind, count in sorted(wrong.items()))
    return f"{said}; {told}", True


async def _gc(params: MaintainParams, settings: Settings) -> tuple[str, bool]:
    del params
    found = await unclaimed(settings)
    if not (orphans := found.all):
        return "no file belongs to nobody", False
    megabytes = sum(one.bytes for one in orphans) / 1e6
    return f"{len(orphans)} files, {megabytes:.1f} MB, belong to nobody: nightkiln store gc", False


async def _forget(params: MaintainParams, settings: Settings) -> tuple[str, bool]:
    del settings
    try:
        gone = await forget_runs(params.runs_kept_days)
    except Exception as error:  # noqa: BLE001 - anything that a server or a client can raise
        get_run_logger().warning("old flow runs could not be deleted: %s", error)
        return "old flow runs could not be deleted", False
    return f"{gone} old flow runs deleted", False


@task(
    name="compact",
    task_run_name="compact",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=0,
)
async def compacted(settings: Settings, grace_s: float) -> Compacted:
    """Fold what nights have left, away from the event loop."""
    store = await asyncio.to_thread(open_store, settings)
    now_s = await asyncio.to_thread(store.now_s)
    return await asyncio.to_thread(compact, store, now_s=now_s, grace_s=grace_s, tell=_nobody)


@task(
    name="verify",
    task_run_name="verify",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=0,
)
async def verified(settings: Settings, nights: int) -> Verified:
    """Look at every size, and read tonight's part of the images."""
    store = await asyncio.to_thread(open_store, settings)
    of = max(1, nights)
    part = Part(int(time.time() // DAY_S) % of, of)
    return await asyncio.to_thread(verify, store, is_quick=nights == 0, tell=_nobody, part=part)


@task(
    name="gc, dry run",
    task_run_name="gc, dry run",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=0,
)
async def unclaimed(settings: Settings) -> Collectable:
    """Look for files that belong to nobody; removes none."""
    store = await asyncio.to_thread(open_store, settings)
    return await asyncio.to_thread(
        collectable, store, older_than_s=OLDER_THAN_S, now_s=time.time(), tell=_nobody
    )


@task(
    name="table",
    task_run_name="table",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=0,
)
async def show(found: Verified) -> int:
    """Leave what is wrong as an artifact."""
    wrong = [one for one in found.findings if one.kind not in HARMLESS][:ROWS_MAX]
    rows = [
        {"kind": one.kind.value, "file": one.key, "what": one.what, "batch": one.batch}
        for one in wrong
    ]
    said = f"{found.problems} problems; nightkiln store verify tells all"
    await acreate_table_artifact(rows, key=ARTIFACT_KEY, description=said)
    return len(rows)


def _nobody(*_: object) -> None:
    """Nobody watches at night."""
