"""``nightkiln rehearse``: a batch's night, played many times before it is paid for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

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
    MarketOption,
)
from nightkiln.core.errors import BadInput, Problem
from nightkiln.core.terms import Fallback, Late
from nightkiln.rehearse import Summary, lump_for, rehearsed, summary_of, words
from nightkiln.rehearse.asking import Jobs, script_of
from nightkiln.rehearse.chart import chart
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
    for line in (*words.head(summary, jobs), ""):
        console.print(line, markup=False)
    table = Table("a night", "p10", "p50", "p90", box=None, padding=(0, 3, 0, 0), pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in words.rows(summary):
        table.add_row(*row)
    console.print(table)
    console.print(f"\n{words.waste(summary)}")
    for line in _compared(summary) if compares else ():
        console.print(line, markup=False)


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
