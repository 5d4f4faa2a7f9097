"""One round of maintenance from its parameters to the state that the flow run ends in."""

from __future__ import annotations

import asyncio

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import ConfigDict, Field

from nightkiln.core.errors import NightkilnError
from nightkiln.settings import Settings, load_settings
from nightkiln.store.compacting import GRACE_S, Compacted, compact
from nightkiln.wiring import has_store, open_store
from tasks.form import BLOCK, TEXT, Form
from tasks.secrets import s3_given


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
    """Compact the store; Failed, with what to do, when it cannot be read or written."""
    try:
        settings = params.settings(**await s3_given(params.s3_block))
        if not await asyncio.to_thread(has_store, settings):
            return Completed(message=f"nothing to do: {settings.store} is no store yet")
        done = await compacted(settings, params.grace_hours * 3600)
    except NightkilnError as error:
        return Failed(message=str(error))
    return Completed(message=_said(done))


@task(name="compact", cache_policy=NO_CACHE, persist_result=False, retries=0)
async def compacted(settings: Settings, grace_s: float) -> Compacted:
    """Fold what nights have left, away from the event loop."""
    store = await asyncio.to_thread(open_store, settings)
    now_s = await asyncio.to_thread(store.now_s)
    return await asyncio.to_thread(compact, store, now_s=now_s, grace_s=grace_s, tell=_nobody)


def _nobody(_read: int, _total: int) -> None:
    """Nobody watches at night."""


def _said(done: Compacted) -> str:
    if done.was_late:
        return "another compaction was faster"
    return (
        f"{done.shards} small files folded into {done.files}, {done.rows} rows; "
        f"{done.removed} replaced files removed"
    )
