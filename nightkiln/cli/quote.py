"""``nightkiln quote``: what a batch will cost and when it will be done, before it is paid for."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import typer
from rich.console import Console

from nightkiln.cli.basis import basis_lines
from nightkiln.cli.options import (
    CatalogArgument,
    JsonOption,
    LimitOption,
    SetOption,
    StoreOption,
    parsed_overrides,
)
from nightkiln.cli.rehearsing import BudgetOption, ByOption, Jobs, MarketOption, script_of
from nightkiln.credit import seen_account
from nightkiln.observers.sentences import duration
from nightkiln.rehearse import Quote, quoted
from nightkiln.settings import Settings, load_settings
from nightkiln.wiring import chosen_catalog

BITS_PER_MB = 8
BYTES_PER_GB = 1e9
GPU_S = 4.0  # a job of an RTX 4090 at SDXL, to tell a computer's limit in GPUs


def quote(
    catalog: CatalogArgument,
    *,
    by: ByOption,
    budget: BudgetOption,
    market: MarketOption = "ordinary",
    store: StoreOption = None,
    limit: LimitOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a batch will cost and when it will be done; 20 seconds at most, for any size.

    A short rehearsal: few nights, and many jobs played as one. Prices and machines are those of a
    market file, not of today's offers; how long a job takes, too, until a run or `nightkiln try`
    has measured this workflow in the same store. Nothing is rented. With a key of Vast.ai, its
    account is asked for the worst case: all prepaid credit.

    Example: nightkiln quote catalogs/parti --by 07:00 --budget 12

    Exit codes: 0 quoted, also when it does not fit, and then it says what would; 2 bad input.
    """
    settings = load_settings(store=store)
    chosen = chosen_catalog(catalog, overrides=parsed_overrides(overrides), limit=limit)
    script, jobs = script_of(chosen, settings, by=by, budget=budget, market=market)
    assert script.budget is not None, "it was asked for"
    found = quoted(script, script.budget)
    account = asyncio.run(seen_account(settings))
    if as_json:
        more = {
            "jobs_are_exact": jobs.is_exact,
            "free_disk_gb": _free_gb(settings),
            "results_per_s_max": settings.results_per_s,
            "account": account.as_object(),
        }
        typer.echo(json.dumps(found.as_object() | more))
        return
    console = Console(soft_wrap=True, highlight=False)
    for line in (*_lines(found, jobs, settings), *account.lines(script.budget)):
        console.print(line, markup=False)


def _lines(found: Quote, jobs: Jobs, settings: Settings) -> Iterator[str]:
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
    gb_in = summary.mean(lambda night: night.gb_in)
    yield f"  network   {gb_in:.0f} GB into machines, {found.results_gb:.1f} GB of results out"
    yield from _here(found, settings)
    for number, line in enumerate((*basis_lines(summary.script), _nights(found))):
        yield f"  {'' if number else 'basis':9} {line}"
    yield from _advice(found)


def _nights(found: Quote) -> str:
    summary, market = found.summary, found.summary.script.market
    return (
        f"{len(summary.nights)} nights of market file {market.name} ({market.digest}), "
        f"{summary.script.lump} jobs played as one; live offers come with the cloud providers"
    )


def _here(found: Quote, settings: Settings) -> Iterator[str]:
    """What this computer has to be up to."""
    megabits = found.results_per_s * found.summary.script.market.batch.result_mb * BITS_PER_MB
    free_gb = _free_gb(settings)
    yield (
        f"  here      {found.results_per_s:.1f} results a second, {megabits:.0f} Mbit/s; "
        f"{found.results_gb:.1f} GB of results, {free_gb:.0f} GB are free"
    )
    most = settings.results_per_s
    yield (
        f"{'':12}{most:g} results a second are its limit: {most * GPU_S:.0f} GPUs at {GPU_S:g} s "
        "a job (NIGHTKILN_RESULTS_PER_S)"
    )
    if found.results_gb > free_gb:
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


def _free_gb(settings: Settings) -> float:
    """Free where the store is, or would be made."""
    folder = Path(settings.store).expanduser().absolute()
    there = next(each for each in (folder, *folder.parents) if each.exists())
    return shutil.disk_usage(there).free / BYTES_PER_GB
