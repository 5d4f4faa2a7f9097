"""``nightkiln quote``: what a batch will cost and when it will be done, before it is paid for."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import typer
from rich.console import Console

from nightkiln.before_renting import ready_to_rent
from nightkiln.blobs.s3_place import SCHEME
from nightkiln.catalog import Catalog
from nightkiln.catalog.models import SENT_BYTES_MAX
from nightkiln.cli.basis import basis_lines
from nightkiln.cli.options import (
    BudgetOption,
    ByOption,
    CatalogArgument,
    FallbackOption,
    JsonOption,
    LimitOption,
    ProviderOption,
    SetOption,
    StoreOption,
    parsed_overrides,
)
from nightkiln.cli.rehearsing import Jobs, MarketOption, script_of
from nightkiln.core.errors import BadInput, Problem
from nightkiln.core.terms import Fallback
from nightkiln.credit import SeenAccount, seen_account
from nightkiln.deployment import SeenApp, usable
from nightkiln.observers.sentences import duration
from nightkiln.places import LOCAL, VAST, provider_names
from nightkiln.rehearse import Quote, Script, quoted
from nightkiln.rehearse.script import allowed, with_containers
from nightkiln.settings import Settings, load_settings
from nightkiln.traffic import models_gb, sent_gb
from nightkiln.wiring import chosen_catalog

BITS_PER_MB = 8
BYTES_PER_GB = 1e9
GPU_S = 4.0  # a job of an RTX 4090 at SDXL, to tell a computer's limit in GPUs


def quote(
    catalog: CatalogArgument,
    *,
    by: ByOption = None,
    budget: BudgetOption = None,
    fallback: FallbackOption = None,
    market: MarketOption = "ordinary",
    provider: ProviderOption = None,
    store: StoreOption = None,
    limit: LimitOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a batch will cost and when it will be done; 20 seconds at most, for any size.

    A short rehearsal: few nights, and many jobs played as one. Prices and machines are those of a
    market file, not of today's offers; how long a job takes, too, until a run or `nightkiln try`
    has measured this workflow in the same store. Nothing is rented.

    Where a run with the same settings would rent at Vast.ai, its account and the hosts of private
    models are asked first, as such a run does: the worst case is told, all prepaid credit. Where it
    would use Modal, its app is looked for; what cannot be had is not counted on.

    Example: nightkiln quote catalogs/parti --by 07:00 --budget 12

    Exit codes: 0 quoted, also when it does not fit, and then it says what would; 2 bad input, or
    nothing could be rented.
    """
    settings = load_settings(
        store=store, providers=provider, by=by, budget=budget, fallback=fallback
    )
    _check_goals(settings)
    chosen = chosen_catalog(
        catalog, overrides=parsed_overrides(overrides), limit=limit, settings=settings
    )
    names = _names(settings)
    account, names, app = asyncio.run(_seen(names, chosen, settings))
    goals = {"by": settings.by, "budget": str(settings.budget)}
    script, jobs = script_of(chosen, settings, market=market, **goals)
    assert script.budget is not None, "it was asked for"
    found = quoted(_reachable(script, settings, names), script.budget)
    if as_json:
        more = {
            "jobs_are_exact": jobs.is_exact,
            "free_disk_gb": _free_gb(settings),  # null: the store is no folder
            "results_per_s_max": settings.results_per_s,
            "models_gb": models_gb(chosen),
            "models_sent_gb": sent_gb(chosen),
            "account": account.as_object(),
            "app": app.as_object() if app is not None else None,
            "fallback": found.summary.script.fallback,
        }
        typer.echo(json.dumps(found.as_object() | more))
        return
    console = Console(soft_wrap=True, highlight=False)
    told = [*_lines(found, jobs, settings, chosen), *account.lines(script.budget)]
    for line in told if app is None else (*told, app.line()):
        console.print(line, markup=False)


def _check_goals(settings: Settings) -> None:
    """A quote is of something: by when, and for how much.

    Raises:
        BadInput: one of them is nowhere said.
    """
    problems = []
    if not settings.by:
        fix = "give --by 07:00, or --by 2h"
        problems.append(Problem("--by", "nothing says by when it has to be done", fix))
    if settings.budget is None:
        fix = "give --budget 4.00, in USD"
        problems.append(Problem("--budget", "nothing says how much may be spent", fix))
    if problems:
        raise BadInput(problems)


def _names(settings: Settings) -> tuple[str, ...]:
    """Whom a run with these settings would use; nobody, where nothing is set up.

    Raises:
        BadInput: such a run would not begin.
    """
    try:
        return provider_names(settings)
    except BadInput:
        if settings.providers:
            raise
        return ()  # the figures are worth having all the same


async def _seen(
    names: tuple[str, ...], catalog: Catalog, settings: Settings
) -> tuple[SeenAccount, tuple[str, ...], SeenApp | None]:
    """The account that such a run would rent with, else the one that there is; who is of use.

    Raises:
        BadInput: such a run would not begin.
    """
    usable_names, app = await usable(dict.fromkeys(names), settings, catalog)
    if VAST not in names:
        return await seen_account(settings), tuple(usable_names), app
    account = await ready_to_rent(settings, catalog, has_others=len(names) > 1)
    return account, tuple(usable_names), app


def _reachable(script: Script, settings: Settings, names: tuple[str, ...]) -> Script:
    """The same where only that can be had which a run would be allowed to have."""
    return replace(
        script,
        market=with_containers(script.market, settings.modal_max_containers),
        fallback=allowed(settings.fallback, [name for name in names if name != LOCAL]),
        usd_per_hour_max=settings.vast_usd_per_hour_max,
    )


def _lines(found: Quote, jobs: Jobs, settings: Settings, catalog: Catalog) -> Iterator[str]:
    summary, market = found.summary, found.summary.script.market
    usd, finish_s = found.usd, found.finish_s
    machines = summary.spread(lambda night: night.leases_most)
    most = "" if jobs.is_exact else "at most "
    deadline = duration(summary.script.deadline_s)
    yield f"{most}{jobs.count:,} jobs within {deadline} for {found.budget} USD"
    yield f"  cost      p50 {usd.p50:.2f} USD, p90 {usd.p90:.2f} USD"
    yield (
        f"  finish    p50 {duration(finish_s.p50)}, p90 {duration(finish_s.p90)}; the deadline is "
        f"met on {summary.deadline_met_fraction:.0%} of the nights"
    )
    yield (
        f"  machines  p50 {machines.p50:.0f}, p90 {machines.p90:.0f} at once, each with "
        f"{market.batch.disk_gb:g} GB of disk"
    )
    yield f"  may have  {_may_have(summary.script)}"
    gb_in = summary.mean(lambda night: night.gb_in)
    yield f"  network   {gb_in:.0f} GB into machines, {found.results_gb:.1f} GB of results out"
    if catalog.environment.models:
        yield (
            f"  models    {models_gb(catalog):.2f} GB to each machine, of which this computer sends"
            f" {sent_gb(catalog):.2f} GB (at most {SENT_BYTES_MAX / BYTES_PER_GB:g} GB a file)"
        )
    yield from _here(found, settings)
    for number, line in enumerate((*basis_lines(summary.script), _nights(found))):
        yield f"  {'' if number else 'basis':9} {line}"
    yield from _advice(found)


def _may_have(script: Script) -> str:
    """What of the market is within reach of the settings."""
    machines, most = [], script.usd_per_hour_max
    if script.fallback is not Fallback.ONLY:
        cap = f" at {float(most):g} USD an hour at most" if most is not None else ""
        machines.append(f"machines{cap} (vast_usd_per_hour_max)")
    if script.fallback is not Fallback.NEVER:
        count = script.market.fallback.max_containers
        machines.append(f"{count} containers of the fallback (modal_max_containers)")
    return " and ".join(machines)


def _nights(found: Quote) -> str:
    summary, market = found.summary, found.summary.script.market
    return (
        f"{len(summary.nights)} nights of market file {market.name} ({market.digest}), "
        f"{summary.script.lump} jobs played as one; not today's offers"
    )


def _here(found: Quote, settings: Settings) -> Iterator[str]:
    """What this computer has to be up to."""
    megabits = found.results_per_s * found.summary.script.market.batch.result_mb * BITS_PER_MB
    free_gb = _free_gb(settings)
    yield (
        f"  here      {found.results_per_s:.1f} results a second, {megabits:.0f} Mbit/s; "
        f"{found.results_gb:.1f} GB of results"
        + (f", {free_gb:.0f} GB are free" if free_gb is not None else f" for {settings.store}")
    )
    most = settings.results_per_s
    yield (
        f"{'':12}{most:g} results a second are its limit: {most * GPU_S:.0f} GPUs at {GPU_S:g} s "
        "a job (NIGHTKILN_RESULTS_PER_S)"
    )
    if free_gb is not None and found.results_gb > free_gb:
        yield f"  too little disk for the results at {settings.store}: free some, or --limit"


def _advice(found: Quote) -> Iterator[str]:
    if found.is_within:
        yield "it fits: budget and deadline hold on nine nights out of ten"
        return
    yield "it does not fit: budget or deadline would not hold on nine nights out of ten"
    deadline = duration(found.summary.script.deadline_s)
    if found.jobs_that_fit:
        yield f"  what would fit: about {found.jobs_that_fit:,} jobs within {deadline}"
    if found.deadline_that_fits_s is not None:
        later = duration(found.deadline_that_fits_s)
        yield f"  what would fit: all of them, within {later}"
    if not found.jobs_that_fit and found.deadline_that_fits_s is None:
        yield "  neither fewer jobs nor a later deadline was found to fit: raise --budget"


def _free_gb(settings: Settings) -> float | None:
    """Free where the store is, or would be made; None: nobody counts that in an object store."""
    if settings.store.startswith(SCHEME):
        return None
    folder = Path(settings.store).expanduser().absolute()
    there = next(each for each in (folder, *folder.parents) if each.exists())
    return shutil.disk_usage(there).free / BYTES_PER_GB
