"""``nightkiln rehearse``: a batch's night, played many times before it is paid for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from nightkiln.cli.basis import basis_lines
from nightkiln.cli.charts import check_chart, write_chart
from nightkiln.cli.options import (
    CatalogArgument,
    JsonOption,
    LimitOption,
    SetOption,
    StoreOption,
    parsed_overrides,
)
from nightkiln.cli.rehearsing import (
    BudgetOption,
    ByOption,
    Counter,
    Jobs,
    MarketOption,
    script_of,
)
from nightkiln.core.errors import BadInput, Problem
from nightkiln.core.terms import Fallback, Late
from nightkiln.observers.sentences import duration
from nightkiln.rehearse import Summary, lump_for, rehearsed, summary_of
from nightkiln.rehearse.chart import chart
from nightkiln.rehearse.summary import WASTE, Spread
from nightkiln.settings import load_settings
from nightkiln.wiring import chosen_catalog

NIGHTS_MAX = 10_000
LUMP_MAX = 100_000


def rehearse(
    catalog: CatalogArgument,
    *,
    by: ByOption,
    budget: BudgetOption,
    nights: Annotated[
        int, typer.Option(min=1, max=NIGHTS_MAX, metavar="COUNT", help="How many nights to play.")
    ] = 200,
    market: MarketOption = "ordinary",
    lump: Annotated[
        str,
        typer.Option(
            metavar="auto|JOBS",
            help="Play so many jobs as one: 1 is exact, more is faster, and auto is as many as "
            "change little.",
        ),
    ] = "auto",
    fallback: Annotated[
        Fallback,
        typer.Option(metavar="auto|never|only", help="When serverless GPUs may be used."),
    ] = Fallback.AUTO,
    late: Annotated[
        Late,
        typer.Option(metavar="stop|finish", help="What happens at the deadline."),
    ] = Late.STOP,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="Show also what others would have paid on these nights: the fallback alone, "
            "somebody who rents by hand, somebody clairvoyant.",
        ),
    ] = False,
    chart_file: Annotated[
        Path | None,
        typer.Option("--chart", metavar="FILE", help="Draw cost and finish, as .png or .svg."),
    ] = None,
    store: StoreOption = None,
    limit: LimitOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Play the batch's night again and again in a simulated market, and show how it goes.

    What decides and what carries it out are those of a real run; only the machines, and the time,
    are simulated, from a market file whose numbers are mostly guesses (docs/reference/market.md).
    How many jobs there are comes from the catalog; how long one takes, from what runs or
    `nightkiln try` have measured of this workflow in the store, else from the market file.

    Example: nightkiln rehearse catalogs/parti --by 07:00 --budget 12 --nights 20

    Exit codes: 0 played, whatever came of it; 2 bad input, nothing was played.
    """
    check_chart(chart_file)
    settings = load_settings(store=store)
    chosen = chosen_catalog(
        catalog, overrides=parsed_overrides(overrides), limit=limit, settings=settings
    )
    script, jobs = script_of(chosen, settings, by=by, budget=budget, market=market)
    size = _lump(lump, lump_for(script.market, script.deadline_s))
    script = replace(script, lump=min(size, jobs.count), fallback=fallback, late=late)
    played = Counter("nights", nights).over(rehearsed(script, range(nights)))
    summary = summary_of(script, list(played))
    if chart_file is not None:
        write_chart(chart(summary), chart_file)
    if as_json:
        typer.echo(json.dumps(summary.as_object() | {"jobs_are_exact": jobs.is_exact}))
    else:
        show(summary, jobs, compares=compare)


def _lump(text: str, usual: int) -> int:
    if text == "auto":
        return usual
    if not text.isdecimal() or not 1 <= int(text) <= LUMP_MAX:
        fix = f"auto, or a number from 1 to {LUMP_MAX}"
        raise BadInput([Problem(f"--lump {text}", "is no such number", fix)])
    return int(text)


def show(summary: Summary, jobs: Jobs, *, compares: bool) -> None:
    """The table for people."""
    console = Console(soft_wrap=True, highlight=False)
    for line in _head(summary, jobs):
        console.print(line, markup=False)
    table = Table("a night", "p10", "p50", "p90", box=None, padding=(0, 3, 0, 0), pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, spread, form in _rows(summary):
        table.add_row(name, *(form(value) for value in (spread.p10, spread.p50, spread.p90)))
    console.print(table)
    parts = summary.parts
    waste = ", ".join(f"{name.replace('_', ' ')} {parts[name]:.3f}" for name in WASTE)
    console.print(f"\nof the mean {parts.usd:.3f} USD no result came of: {waste}")
    for line in _compared(summary) if compares else ():
        console.print(line, markup=False)


def _head(summary: Summary, jobs: Jobs) -> Iterator[str]:
    script = summary.script
    most = "" if jobs.is_exact else "at most "
    lumps = f", {script.lump} played as one" if script.lump > 1 else ""
    deadline = duration(script.deadline_s)
    yield (
        f"{most}{jobs.count:,} jobs within {deadline} for {script.budget} USD, on "
        f"{len(summary.nights)} nights of market {script.market.name} ({script.market.digest})"
        f"{lumps}"
    )
    yield (
        f"deadline met on {summary.deadline_met_fraction:.1%} of them, "
        f"{summary.usd_per_1000:.3f} USD per 1,000 jobs, "
        f"{summary.waste_fraction:.1%} of the money bought no result"
    )
    reasons = sorted({night.stop_reason for night in summary.nights if night.stop_reason})
    if reasons:
        yield f"stopped early, such as: {reasons[0]}"
    yield from basis_lines(script)
    yield ""


def _rows(summary: Summary) -> Iterator[tuple[str, Spread, Callable[[float], str]]]:
    """What is told of every night, and how."""
    yield "cost, USD", summary.spread(lambda night: night.usd), "{:.2f}".format
    yield "finish", summary.spread(lambda night: night.finish_s), duration
    yield "machines ever rented", summary.spread(lambda night: night.leases), "{:.0f}".format
    yield "... at once", summary.spread(lambda night: night.leases_most), "{:.0f}".format
    yield "... taken away", summary.spread(lambda night: night.leases_lost), "{:.0f}".format
    yield "... never came up", summary.spread(lambda night: night.starts_failed), "{:.0f}".format
    yield "jobs failed", summary.spread(lambda night: night.jobs_failed), "{:.0f}".format
    yield "jobs left", summary.spread(lambda night: night.jobs_left), "{:.0f}".format
    yield "waste, USD", summary.spread(lambda night: night.parts.waste_usd), "{:.3f}".format


def _compared(summary: Summary) -> Iterator[str]:
    others = summary.baselines
    assert others is not None, "nights are always compared"
    hands = (("by hand, on demand", others.best_on_demand), ("by hand, any kind", others.best_hand))
    yield ""
    yield "USD per 1,000 jobs on the same nights:"
    yield f"  {'this':22} {summary.usd_per_1000:8.3f}"
    lines = [("fallback only", others.usd_per_1000_fallback_only, "")]
    for name, hand in hands:
        if hand is not None:
            lines.append((name, hand.usd_per_1000, f"the best in hindsight: {hand.hand}"))
        else:
            yield f"  {name:22} {'-':>8}   none makes the deadline on 99 % of the nights"
    lines.append(("clairvoyant", others.usd_per_1000_clairvoyant, "nobody can pay less"))
    for name, usd, note in lines:
        ratio = summary.usd_per_1000 / usd if usd > 0 else float("inf")
        yield f"  {name:22} {usd:8.3f}   this is {ratio:5.2f} x of it" + (f"; {note}" * bool(note))
