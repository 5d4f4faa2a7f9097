"""``nightkiln compare``: what a catalog would cost, and when it would be done, on which GPUs."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from nightkiln.catalog import Catalog
from nightkiln.cli.charts import check_chart, write_chart
from nightkiln.cli.options import (
    ByOption,
    CatalogArgument,
    JsonOption,
    LimitOption,
    ProviderOption,
    SetOption,
    StoreOption,
    WorkerUrlOption,
    parsed_overrides,
)
from nightkiln.cli.rehearsing import MarketOption
from nightkiln.compare import Comparison, Plan, Visit, compared, visited
from nightkiln.compare.chart import chart
from nightkiln.compare.words import PARTS, advice, finish_words, footnotes, group_words, kind_words
from nightkiln.core.comparing import Batch, Line, rank
from nightkiln.core.errors import BadInput, Problem
from nightkiln.core.terms import DEADLINE_S_UNSAID, Load
from nightkiln.deadline import seconds_until
from nightkiln.night import LEASES_MAX
from nightkiln.observers.sentences import duration
from nightkiln.priors import shipped_date, shipped_priors
from nightkiln.rehearse import measured_in
from nightkiln.rehearse.asking import Jobs, jobs_of
from nightkiln.rehearse.basis import CLASSES_TOLD_MAX, measured_words
from nightkiln.rehearse.markets import market_of
from nightkiln.settings import Settings, load_settings
from nightkiln.traffic import expected_load
from nightkiln.wiring import chosen_catalog, has_store, open_store, remembered_of

OWN_USD_MAX, KWH_USD_MAX, WATTS_MAX = 10_000.0, 10.0, 10_000.0
WATTS = 500.0  # a guess: a card of 350 to 450 W under load, and the computer around it
W_PER_KW = 1000
WIDTH = 120  # columns that the whole table takes

NAME_MIN, NUMBER_MIN = 24, 4
WITH_ROOM = ("storage", "network", "idle")  # parts of the USD that a wide table shows


def compare(
    catalog: CatalogArgument,
    *,
    by: ByOption = None,
    provider: ProviderOption = None,
    worker_url: WorkerUrlOption = None,
    market: MarketOption = "ordinary",
    own_hour: Annotated[
        float,
        typer.Option(
            metavar="USD", help="What an hour until the batch is done is worth to you; it is added."
        ),
    ] = 0.0,
    kwh: Annotated[
        float,
        typer.Option(metavar="USD", help="Electricity of your own machines, a kilowatt-hour."),
    ] = 0.0,
    watts: Annotated[
        float, typer.Option(metavar="W", help="What one of them draws while it renders.")
    ] = WATTS,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask nobody: market file and dated price lists.")
    ] = False,
    chart_file: Annotated[
        Path | None,
        typer.Option("--chart", metavar="FILE", help="Draw the dollars, as .png or .svg."),
    ] = None,
    store: StoreOption = None,
    limit: LimitOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show USD per 1,000 finished jobs, expected finish and start-up share by provider and GPU.

    Each line is the whole catalog on one kind of GPU, on the fewest machines that make the
    deadline (8 hours, unless told otherwise). Seconds per job are measured where the store has
    some, else from a dated table; prices are today's where a key is set, else from a market file or
    a price list. Both are told for every line, and only lines of the same basis are ranked. Nothing
    is rented; whoever is asked has 20 seconds.

    Example: nightkiln compare catalogs/parti --by 2h --own-hour 0.50

    Exit codes: 0 compared; 2 bad input, or there is nothing to compare.
    """
    check_chart(chart_file)
    settings = load_settings(store=store, worker_urls=worker_url, providers=provider, by=by)
    chosen = chosen_catalog(
        catalog, overrides=parsed_overrides(overrides), limit=limit, settings=settings
    )
    power = _checked("--kwh", kwh, KWH_USD_MAX) * _checked("--watts", watts, WATTS_MAX) / W_PER_KW
    visit = Visit(
        catalog=chosen,
        settings=settings,
        market=market_of(market),
        asks=not offline,
        own_usd_per_hour=Decimal(repr(power)),
    )
    jobs = jobs_of(chosen)
    found = _compared(visit, jobs.count, _checked("--own-hour", own_hour, OWN_USD_MAX))
    if chart_file is not None:
        write_chart(chart(found), chart_file)
    if as_json:
        typer.echo(json.dumps(found.as_object() | {"jobs_are_exact": jobs.is_exact}))
    else:
        _show(found, jobs, settings)


def _checked(flag: str, value: float, most: float) -> float:
    """A number from 0 to ``most``.

    Raises:
        BadInput: it is none.
    """
    if not 0 <= value <= most:  # nor is "nan"
        raise BadInput([Problem(f"{flag} {value:g}", "makes no sense", f"from 0 to {most:g}")])
    return value


def _compared(visit: Visit, jobs: int, own_usd_per_hour: float) -> Comparison:
    """Ask whoever is to be asked, and reckon.

    Raises:
        BadInput: there is nothing to compare.
    """
    catalog, settings, now_s = visit.catalog, visit.settings, time.time()
    if not jobs:
        raise BadInput([Problem(str(catalog.folder), "asks for no jobs", "add rows")])
    remembered = remembered_of(catalog, settings)
    batch = Batch(
        jobs=jobs,
        deadline_s=_deadline_s(settings, now_s),
        load=_load(catalog, settings),
        machines_max=LEASES_MAX,
        own_usd_per_hour=own_usd_per_hour,
    )
    plan = Plan(batch, shipped_priors(), remembered, shipped_date(), now_s)
    met = {host: pace.gpu for host, pace in remembered.scores.machines.items()}
    stalls = asyncio.run(visited(replace(visit, gpus=met)))
    measured = measured_in(visit.market, remembered, plan.priors)
    found = compared(plan, stalls, measured.classes if measured is not None else ())
    if not found.lines:
        fix = "a later --by, another --provider, or less in needs: of catalog.yaml"
        raise BadInput([Problem("compare", "; ".join(_why_nothing(found)), fix)])
    return found


def _deadline_s(settings: Settings, now_s: float) -> float:
    if not settings.by:
        return DEADLINE_S_UNSAID
    return seconds_until(settings.by, now_s=now_s, timezone=settings.timezone)


def _load(catalog: Catalog, settings: Settings) -> Load:
    store = open_store(settings) if has_store(settings) else None
    return expected_load(catalog, store, image_gb=settings.image_gb)


def _why_nothing(found: Comparison) -> Iterator[str]:
    yield "no GPU is left to compare"
    yield from found.notes
    if found.late:
        yield f"not up in time: {', '.join(found.late)}"
    if found.unknown:
        yield f"nobody knows how fast they are: {', '.join(found.unknown)}"


def _show(found: Comparison, jobs: Jobs, settings: Settings) -> None:
    """The tables for people."""
    console = Console(soft_wrap=True, highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    for line in _head(found, jobs):
        console.print(line, markup=False)
    for basis, group in found.groups.items():
        console.print(f"\n{group_words(found, basis)}", markup=False)
        console.print(_table(found, group, is_wide=console.width >= WIDTH))
    console.print()
    if console.width < WIDTH:
        console.print(f"seconds, and what USD are for: with {WIDTH} columns, --json or --chart")
    for line in (*footnotes(found), *advice(found, settings)):
        console.print(line, markup=False)


def _head(found: Comparison, jobs: Jobs) -> Iterator[str]:
    batch = found.plan.batch
    most = "" if jobs.is_exact else "at most "
    yield (
        f"{most}{jobs.count:,} jobs within {duration(batch.deadline_s)}, each line on one kind of "
        "GPU alone, on as many as make it cheapest; USD per 1,000 finished jobs"
    )
    for one in found.measured[:CLASSES_TOLD_MAX]:
        yield f"measured: {measured_words(one)}"


def _table(found: Comparison, group: Sequence[Line], *, is_wide: bool) -> Table:
    """A group's lines; what USD are for only where there is room."""
    parts = WITH_ROOM if is_wide else ()
    if is_wide and found.plan.batch.own_usd_per_hour > 0:
        parts = (*parts, "own_time")
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("", min_width=2, justify="right", no_wrap=True)
    table.add_column("", min_width=NAME_MIN if is_wide else 1, no_wrap=True)
    names = [*(["s a job"] if is_wide else []), *(PARTS[part] for part in parts)]
    for name in ("USD/1k", "finish", "GPUs", "start-up", *names):
        table.add_column(name, min_width=NUMBER_MIN, justify="right", no_wrap=True)
    table.add_column("basis", no_wrap=True)
    for line in group:
        table.add_row(*_cells(line, group, parts, is_wide=is_wide))
    return table


def _cells(
    line: Line, group: Sequence[Line], parts: Iterable[str], *, is_wide: bool
) -> Iterator[str]:
    found, place = line.expected, rank(line, group)
    yield f"{place}" if place is not None else "-"
    yield f"{line.provider} {line.gpu}{kind_words(line.kind)}"
    yield f"{found.usd_per_1000:.3f}"
    yield finish_words(found)
    yield f"{found.machines}"
    share = found.startup_fraction
    yield f"{share:.0%}" if share is not None else "-"
    if is_wide:
        yield f"{found.seconds_per_job:.2f} ±{found.seconds_sd:.0%}"
    for part in parts:
        yield f"{found.per_1000(found.parts[part]):.3f}"
    yield str(line.basis)
