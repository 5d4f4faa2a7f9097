"""One controller of several: takes a start of its share, works on it, and says how it went."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial

from nightkiln.allotment import Allotment
from nightkiln.core.errors import BadInput, ClaimHeld, NightkilnError
from nightkiln.gate import unquoted
from nightkiln.night import StopSwitch
from nightkiln.outcome import BAD_INPUT, Outcome
from nightkiln.ports.observer import Observer
from nightkiln.ports.provider import Provider
from nightkiln.settings import Settings
from nightkiln.store.claims import STALE_S
from nightkiln.store.shares import Ticket
from nightkiln.wiring import Request, open_store, run_batch

CLAIM_S_MAX = 2 * STALE_S  # until the claim of one that died elsewhere is nobody's any more
CLAIM_AGAIN_S = 5.0


async def work_on_share(
    request: Request,
    settings: Settings,
    ticket: Ticket,
    observer: Observer,
    *,
    switch: StopSwitch,
    clock: Callable[[], float] = time.time,
    rents_from: Mapping[str, Provider] | None = None,
) -> Outcome:
    """Work on one share of a night, within what its night lets it spend.

    Nobody is quoted or asked here: that was done once, for the whole night.

    Raises:
        ShareTaken: this start of the share is somebody else's, or was called off; nothing is done.
        NightkilnError: as ``run_batch`` does.
    """
    store = await asyncio.to_thread(open_store, settings)
    allotment = Allotment(store.blobs, ticket)
    usd = await asyncio.to_thread(allotment.begin)
    settings = settings.model_copy(update={"budget": usd})
    request = replace(request, name=ticket.share.batch, is_nightly=False, allotment=allotment)
    run = partial(
        run_batch,
        request,
        settings,
        observer,
        switch=switch,
        clock=clock,
        rents_from=rents_from,
        gate=unquoted,
    )
    keeping = asyncio.create_task(allotment.keep(switch), name=f"link of {ticket.label}")
    outcome, exit_code, said = None, None, "it was cut short"
    try:
        outcome = await _once_claimed(run)
    except BadInput as error:
        exit_code, said = BAD_INPUT, str(error)
        raise
    except NightkilnError as error:
        said = str(error)
        raise
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await asyncio.shield(allotment.end(outcome, exit_code=exit_code, said=said))
    return outcome


async def _once_claimed(run: Callable[[], Awaitable[Outcome]]) -> Outcome:
    """A run before us may have died on another computer, which shows only after a while."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + CLAIM_S_MAX
    while True:
        try:
            return await run()
        except ClaimHeld:
            if loop.time() > until_s:
                raise
        await asyncio.sleep(CLAIM_AGAIN_S)
