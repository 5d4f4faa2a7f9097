"""What every flow does: one batch from its parameters to the state that the flow run ends in."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from prefect import get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed

from nightkiln.allotment import STOPPED
from nightkiln.core.errors import ClaimHeld, NightkilnError, Refused
from nightkiln.gate import Gate
from nightkiln.heeding import ASKED
from nightkiln.night import ALL_DONE, STOPPED_EARLY, Outcome, StopSwitch
from nightkiln.observers import Several
from nightkiln.observers.sentences import outcome_facts
from nightkiln.ports.observer import Observer
from nightkiln.ports.provider import Provider
from nightkiln.rehearse.gate import Consent, QuoteGate, as_set, freely
from nightkiln.settings import Settings
from nightkiln.signals import stopping_on_signals
from nightkiln.wiring import Request, run_batch
from tasks.approving import Asking, rules_of, tell_refused
from tasks.asked import request_of
from tasks.failing import failed
from tasks.names import tag_run, tags_of
from tasks.params import RunParams
from tasks.refusing import refused
from tasks.secrets import secrets_of
from tasks.showing.closing import leave
from tasks.showing.observer import PrefectObserver

# Prefect kills a process half a minute after it has asked it to end, and has no setting for that.
# What is being rendered may take this long, then it is handed back, and the rest of the time is for
# releasing machines and committing.
STOP_PATIENCE_S = {"finish": 12.0, "hand back": 0.0}
TOLD_TO = frozenset({ASKED, STOPPED})  # why a run stops that somebody told to end through the store


class Works(Protocol):
    """What works on a batch: ``run_batch``, or something that has others do it."""

    async def __call__(
        self,
        request: Request,
        settings: Settings,
        observer: Observer,
        *,
        switch: StopSwitch,
        rents_from: Mapping[str, Provider] | None,
        gate: Gate,
    ) -> Outcome:
        """Until the batch is settled or stopped."""


async def batch(
    params: RunParams,
    *,
    is_nightly: bool,
    request: Request | None = None,
    rents_from: Mapping[str, Provider] | None = None,
    works: Works = run_batch,
    is_share: bool = False,
) -> State[None]:
    """Check, render, report; how the flow run ends says what came of it.

    ``request``: instead of what the parameters ask for.
    ``rents_from``: providers by name, instead of those that the settings make usable.
    ``works``: who works on it, if not this flow run alone.
    ``is_share``: it is a share of a night, which tells of itself what is told of a night.
    """
    switch, asking = StopSwitch(), Asking(rules_of(params))
    heard: list[str] = []
    try:
        settings = params.settings(**await secrets_of(params))
        patience_s = STOP_PATIENCE_S[params.on_cancel]
        with stopping_on_signals(switch, patience_s=patience_s) as heard:
            outcome = await render(
                params,
                settings,
                is_nightly=is_nightly,
                switch=switch,
                request=request,
                consent=asking,
                rents_from=rents_from,
                works=works,
                is_share=is_share,
            )
        # A receipt that cannot be written is red in the timeline; the images are there all
        # the same.
        await leave(outcome, settings, is_hurried=bool(heard), is_share=is_share)
    except ClaimHeld as error:
        return refused(error) if is_nightly else failed(error)
    except Refused as error:
        tell_refused(error, asking)
        is_cancelled = bool(heard) or asking.was_cancelled
        return (Cancelled if is_cancelled else Failed)(message=str(error))
    except NightkilnError as error:  # its message says what to do; a traceback would bury it
        return Failed(message=str(error)) if is_share else failed(error)  # its night tells of it
    return verdict(outcome, is_cancelled=bool(heard))


async def render(
    params: RunParams,
    settings: Settings,
    *,
    is_nightly: bool,
    switch: StopSwitch,
    request: Request | None = None,
    consent: Consent = freely,
    also: Observer | None = None,
    rents_from: Mapping[str, Provider] | None = None,
    works: Works = run_batch,
    is_share: bool = False,
) -> Outcome:
    """Work on the batch inside the current flow run; Prefect retries nothing of it.

    ``consent``: whose word is needed before anything is rented. Who deployed it with a budget has
    agreed to any quote within it.

    Raises:
        NightkilnError: as ``run_batch`` does; before preflight has passed, nothing was started.
    """
    if request is None:
        request = await asyncio.to_thread(request_of, params, settings, is_nightly=is_nightly)
    await tag_run(tags_of(request.catalog.name, settings))
    gate = QuoteGate(as_set(settings, request.catalog), consent)
    looking = PrefectObserver(
        get_run_logger(), is_hurried=lambda: switch.is_asked, is_share=is_share
    )
    async with looking as shown:
        observer = shown if also is None else Several((shown, also))
        return await works(
            request, settings, observer, switch=switch, rents_from=rents_from, gate=gate
        )


def verdict(outcome: Outcome, *, is_cancelled: bool) -> State[None]:
    """Completed when every job has its result, as exit code 0 says; else Failed.

    Failed also for a single failed job: a nightly runs while nobody looks, and the state is what
    a list of runs shows. Everything made is in the store either way. A run that was told to end,
    in the UI, by a signal or by ``nightkiln stop``, is Cancelled, and so is each share of a night
    that was: Prefect accepts nothing else from one that somebody cancelled, also when it has not
    heard of that.
    """
    said = "; ".join(outcome_facts(outcome))
    if outcome.exit_code == ALL_DONE:
        return Completed(message=said)
    is_told_to = is_cancelled or outcome.stop_reason in TOLD_TO
    if is_told_to and outcome.exit_code == STOPPED_EARLY:
        return Cancelled(message=said)
    return Failed(message=said)
