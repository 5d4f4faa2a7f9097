"""``nightkiln try``: a few rows on one worker, to see and to measure before the whole catalog."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Annotated

import typer

from nightkiln import catalog as catalogs
from nightkiln.catalog import Catalog
from nightkiln.cli.options import (
    BudgetOption,
    CatalogArgument,
    JsonOption,
    LimitOption,
    ProviderOption,
    SetOption,
    StoreOption,
    WorkerUrlOption,
    parsed_overrides,
)
from nightkiln.cli.run import say_outcome, watch
from nightkiln.night import Outcome
from nightkiln.observers.sentences import duration
from nightkiln.places import provider_names
from nightkiln.rehearse.asking import Jobs, jobs_of
from nightkiln.settings import Settings, load_settings
from nightkiln.store.store import Store
from nightkiln.trial import FLEETS, Trial, failures_by_reason, read_trial, sheet_of
from nightkiln.wiring import Request, batch_name, chosen_catalog, open_store

ROWS_USUAL, ROWS_MAX = 8, 200
FAILURES_TOLD_MAX = 5


@dataclass(frozen=True, slots=True)
class Tried:
    """A trial at its end, and what it was a trial of."""

    catalog: Catalog  # whole
    rows: int  # chosen
    rows_of: int
    jobs: Jobs  # of the whole catalog
    trial: Trial
    sheet: str | None  # None: there is nothing to show


def try_rows(
    catalog: CatalogArgument,
    *,
    rows: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=ROWS_MAX,
            metavar="COUNT",
            help=f"How many rows, spread over the catalog. Default: {ROWS_USUAL}, or all if there "
            "are fewer.",
            show_default=False,
        ),
    ] = None,
    budget: BudgetOption = None,
    store: StoreOption = None,
    worker_url: WorkerUrlOption = None,
    provider: ProviderOption = None,
    limit: LimitOption = None,
    overrides: SetOption = None,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="Render and measure anew what the store has already."),
    ] = False,
    object_info: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Node definitions to check against, from `object-info save`."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Render a few rows on one worker, show them in one picture, and measure seconds per job.

    The rows lie at even distances over the whole catalog, and every checkpoint, size or number of
    steps that has a column of its own is among them if COUNT allows. They are an ordinary batch of
    the store: `nightkiln run` with the same store does not render them again, and `nightkiln quote`
    goes by what was measured instead of a market file's seconds.

    Example: nightkiln try catalogs/demo --rows 8 --budget 0.50 --worker-url http://127.0.0.1:8188

    One worker at a time, also if more are named. The same command again shows the same trial, or
    finishes it; --fresh makes another one. A budget is needed only where something costs money.

    Exit codes: those of `nightkiln run`: 0 every job has its image, 1 some jobs failed, 2 bad input
    (nothing started), 3 stopped early; what was made until then is shown and kept.
    """
    settings = load_settings(store=store, worker_urls=worker_url, providers=provider, budget=budget)
    settings = settings.model_copy(update={"by": ""})  # a night's deadline is none of a trial's
    provider_names(settings)  # before rows are read, which may take a while
    chosen = chosen_catalog(
        catalog, overrides=parsed_overrides(overrides), limit=limit, settings=settings
    )
    picked, rows_of = _picked(chosen, rows)
    jobs = jobs_of(chosen)
    request = Request(picked, object_info=object_info, is_fresh=fresh, leases_max=1)
    request = _named(request, settings)
    outcome = asyncio.run(watch(request, settings, as_json=as_json, is_quoted=False))
    say_outcome(outcome, as_json=as_json)
    assert picked.rows is not None, "they were picked"
    kept = open_store(settings)
    trial = read_trial(kept, outcome.batch)
    sheet = _write_sheet(kept, trial, chosen, len(picked.rows), rows_of)
    tried = Tried(chosen, len(picked.rows), rows_of, jobs, trial, sheet)
    if as_json:
        sys.stdout.write(json.dumps(_as_object(tried)) + "\n")
    else:
        for line in _lines(tried, outcome, catalog):
            typer.echo(line)
    raise typer.Exit(outcome.exit_code)


def _picked(catalog: Catalog, rows: int | None) -> tuple[Catalog, int]:
    """The catalog with a spread of its rows, and how many it has.

    Raises:
        BadInput: its rows cannot be read, or there are too few.
    """
    with catalogs.scratch() as con:
        catalogs.load_rows(con, catalog)
        rows_of = catalogs.count_rows(con, catalog)
        count = rows if rows is not None else min(ROWS_USUAL, rows_of)
        return catalog.with_rows(catalogs.spread(con, catalog, count)), rows_of


def _named(request: Request, settings: Settings) -> Request:
    """A batch that is seen to be a trial, and has the same name when it is called again."""
    catalog = request.catalog
    usual = batch_name(request, settings, now_s=time.time())
    name = f"{catalog.name}-try{usual.removeprefix(catalog.name)}"
    return Request(
        catalog,
        object_info=request.object_info,
        name=name,
        is_fresh=request.is_fresh,
        leases_max=request.leases_max,
    )


def _write_sheet(
    store: Store, trial: Trial, catalog: Catalog, rows: int, rows_of: int
) -> str | None:
    if not trial.jobs:
        return None
    seconds = f", {fmean(trial.seconds):.2f} s a job" if trial.seconds else ""
    where = ", ".join(trial.places) or "no worker"
    key = f"contact-sheet-{trial.batch}.png"
    heading = f"{catalog.name}: {rows:,} of {rows_of:,} rows"
    store.blobs.put(key, sheet_of(trial, store, heading=heading, below=f"{where}{seconds}"))
    return store.where(key)


def _as_object(tried: Tried) -> dict[str, object]:
    """For programs."""
    trial, jobs = tried.trial, tried.jobs
    finish_s = {str(n): trial.finish_s(jobs.count, n) for n in FLEETS} if trial.seconds else None
    return {
        "event": "tried",
        "catalog": tried.catalog.name,
        "rows": tried.rows,
        "rows_of": tried.rows_of,
        **trial.as_object(),
        "catalog_jobs": jobs.count,
        "catalog_jobs_are_exact": jobs.is_exact,
        "catalog_finish_s_by_machines": finish_s,
        "contact_sheet": tried.sheet,
    }


def _lines(tried: Tried, outcome: Outcome, folder: Path) -> Iterator[str]:
    """For people: what was measured, what failed, what the whole catalog would take."""
    trial = tried.trial
    where = f" on {', '.join(trial.places)}" if trial.places else ""
    yield f"\ntried {tried.rows:,} of {tried.rows_of:,} rows{where}"
    yield from _measured_lines(trial)
    if trial.startup_s is not None:
        yield f"  start-up       {trial.startup_s:.1f} s until the worker answered"
    yield f"  cost           {trial.usd:.2f} USD"
    for why, count in failures_by_reason(trial.failed)[:FAILURES_TOLD_MAX]:
        yield f"  failed         {count}: {why}"
    if trial.seconds:
        yield from _catalog_lines(tried)
    if tried.sheet is not None:
        yield f"  contact sheet  {tried.sheet}"
    if trial.seconds:
        command = shlex.join(["nightkiln", "quote", str(folder), "--store", outcome.store])
        yield f"what it would take on rented machines: {command} --by 07:00 --budget 12"


def _measured_lines(trial: Trial) -> Iterator[str]:
    seconds = trial.seconds
    if not seconds:
        yield "  seconds a job  nothing was rendered, so nothing was measured"
        return
    yield (
        f"  seconds a job  p50 {median(seconds):.2f}, mean {fmean(seconds):.2f}, from "
        f"{min(seconds):.2f} to {max(seconds):.2f}"
    )
    if trial.first_s is not None and len(seconds) > 1:
        yield f"                 the first, which loads what it needs, {trial.first_s:.2f}"
    earlier = sum(job.status == "reused" for job in trial.rendered)
    if earlier:
        yield f"                 {earlier} of {len(seconds)} were rendered by earlier batches"


def _catalog_lines(tried: Tried) -> Iterator[str]:
    most = "" if tried.jobs.is_exact else "at most "
    jobs = tried.jobs.count
    fleets = ", ".join(
        f"{duration(tried.trial.finish_s(jobs, machines))} on {machines}" for machines in FLEETS
    )
    yield f"  whole catalog  {most}{jobs:,} jobs on machines like this: {fleets}"
