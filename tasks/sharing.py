"""Several controllers for one night: each is a flow run of the deployment ``share``.

Prefect starts them, on whichever Prefect worker is free, and shows them. What they may spend, that
they are to stop, and how far they are goes through the store: see ``nightkiln.share_out``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled

from nightkiln.gate import Gate
from nightkiln.night import Outcome, StopSwitch
from nightkiln.places import LOCAL
from nightkiln.ports.observer import Observer
from nightkiln.settings import Settings
from nightkiln.share_out import share_out, workers_of
from nightkiln.share_work import work_on_share
from nightkiln.store.home import store_uri
from nightkiln.store.shares import Ticket
from nightkiln.wiring import Request, goals_of
from tasks.batch import batch
from tasks.params import BatchParams
from tasks.share_params import ShareParams

DEPLOYMENT = "share/share"
ASK_S_MAX = 20.0  # for Prefect's server to answer; the night goes on without it
_log = logging.getLogger(__name__)


async def shared(params: BatchParams, *, is_nightly: bool) -> State[None]:
    """Render a batch with several controllers; how the flow run ends says what came of it all."""
    return await batch(params, is_nightly=is_nightly, works=partial(_share_out, params))


async def worked_on(params: ShareParams) -> State[None]:
    """Render one share of a night."""
    works = partial(_work_on, params)
    return await batch(params.batch, is_nightly=False, works=works, is_share=True)


async def _share_out(
    params: BatchParams,
    request: Request,
    settings: Settings,
    observer: Observer,
    *,
    switch: StopSwitch,
    gate: Gate,
    **_: Any,
) -> Outcome:
    # What a share is told holds wherever and whenever it begins.
    now_s = time.time()
    deadline_s = goals_of(settings, now_s=now_s).deadline_s
    told = params.model_copy(
        update={
            "store": store_uri(settings.store),
            "by": _moment(deadline_s) if deadline_s is not None else "",
            "approve_above_usd": 0.0,
            "controllers": 1,
        }
    )
    return await share_out(
        request,
        settings,
        observer,
        Deployed(told, settings.worker_urls),
        of=params.controllers,
        switch=switch,
        gate=gate,
    )


async def _work_on(
    params: ShareParams,
    request: Request,
    settings: Settings,
    observer: Observer,
    *,
    switch: StopSwitch,
    **_: Any,
) -> Outcome:
    urls = tuple(params.worker_urls)
    others = tuple(name for name in settings.providers if name != LOCAL or urls)
    settings = settings.model_copy(update={"worker_urls": urls, "providers": others})
    return await work_on_share(request, settings, params.ticket, observer, switch=switch)


class Deployed:
    """Starts shares as flow runs. Whatever Prefect's server does not answer is asked again."""

    def __init__(self, params: BatchParams, worker_urls: tuple[str, ...]) -> None:
        self._params, self._urls = params, worker_urls
        self._runs: dict[Ticket, UUID] = {}

    async def start(self, ticket: Ticket) -> bool:
        """Ask for a flow run; the same ticket asks for the same one."""
        share = ticket.share
        urls = workers_of(self._urls, share.number, share.of)
        told = ShareParams.for_ticket(ticket, self._params, urls).model_dump(mode="json")
        asking: Any = run_deployment(
            DEPLOYMENT,
            parameters={"params": told},
            flow_run_name=f"{share.night} {share.number} of {share.of}",
            idempotency_key=f"{ticket.label}-{ticket.mark}",
            timeout=0,
            as_subflow=True,
        )
        try:
            async with asyncio.timeout(ASK_S_MAX):
                run = await asking
        except Exception as error:  # noqa: BLE001 - anything that a server or a client can raise
            _log.warning("%s could not be started yet: %s", share.batch, error or "no answer")
            return False
        self._runs[ticket] = run.id
        return True

    async def will_not_begin(self, ticket: Ticket) -> bool:
        """Whether its flow run has ended, or is gone with Prefect's database."""
        run_id = self._runs.get(ticket)
        if run_id is None:
            return False
        try:
            async with asyncio.timeout(ASK_S_MAX), get_client() as client:
                run = await client.read_flow_run(run_id)
        except ObjectNotFound:
            return True
        except Exception:  # noqa: BLE001 - anything that a server or a client can raise
            _log.debug("Prefect did not say what became of %s", ticket.label, exc_info=True)
            return False
        return run.state is not None and run.state.is_final()

    async def call_off(self, ticket: Ticket) -> None:
        """Cancel a flow run that nobody has begun with."""
        run_id = self._runs.get(ticket)
        if run_id is None:
            return
        try:
            async with asyncio.timeout(ASK_S_MAX), get_client() as client:
                await client.set_flow_run_state(
                    run_id, Cancelled(message="the night was stopped before this began"), force=True
                )
        except Exception:  # noqa: BLE001 - it can do nothing any more: its start is taken
            _log.debug("Prefect could not be told to cancel %s", ticket.label, exc_info=True)


def _moment(deadline_s: float) -> str:
    return f"{datetime.fromtimestamp(deadline_s, UTC):%Y-%m-%dT%H:%M:%S}+00:00"
