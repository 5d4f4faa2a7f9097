"""``nightkiln demo``: a whole night in half a minute, without a GPU, a key or a network."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from nightkiln.cli.demo_hybrid import hybrid_demo
from nightkiln.cli.demo_market import market_demo
from nightkiln.cli.options import JsonOption
from nightkiln.cli.query import show
from nightkiln.cli.run import say_outcome, watch
from nightkiln.core.errors import BadInput, Problem
from nightkiln.core.terms import Upload
from nightkiln.demo import (
    INTRODUCTION,
    QUERY,
    RENDER_S,
    batch_name,
    contact_sheet,
    demo_catalog,
    stand_ins,
)
from nightkiln.night import Outcome
from nightkiln.observers.sentences import outcome_lines
from nightkiln.settings import load_settings
from nightkiln.wiring import Request, chosen_catalog, open_store

QUICK_ROWS = 8


class DemoNight(StrEnum):
    """Which night is shown."""

    MARKET = "market"
    HYBRID = "hybrid"


def demo(
    *,
    store: Annotated[
        str, typer.Option("--store", metavar="STORE", help="Folder, or s3://bucket/prefix.")
    ] = "nightkiln-demo",
    night: Annotated[
        DemoNight | None,
        typer.Option(
            "--night",
            metavar="market|hybrid",
            help="Another night: an hour on a simulated GPU market in half a minute; or on rented "
            "machines with Modal behind them, through both real SDKs, in a minute and a half.",
            show_default=False,
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help=f"Only the first {QUICK_ROWS} prompts.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Render 24 prompts on two stand-in workers, of which one misbehaves.

    The stand-ins answer as ComfyUI does and draw small pictures instead of rendering. One of them
    delivers a damaged image, raises an error and dies half-way; every job is done all the same.
    Takes about 15 seconds; leaves images, a contact sheet of all of them, and a store to query.

    Example: nightkiln demo --store my-first-store

    Another night rents: cheap machines fail to start, are outbid or damage a result, and what
    would be late goes to a dear fallback. Its receipt says what was paid, wasted, tried again and
    sent to the fallback, and why. The market is simulated, so nothing costs money.

    Example: nightkiln demo --night market

    The hybrid night loses half of its machines and finishes on Modal; its receipt says what the
    fallback took, and why. Both services are simulated on this computer, their SDKs are real.

    Example: nightkiln demo --night hybrid

    Exit codes: those of `nightkiln run`.
    """
    if night is not None:
        if quick:
            fix = "leave --quick out: the other nights are always the same jobs"
            raise BadInput([Problem("--quick", "is for the night on stand-in workers", fix)])
        play = market_demo if night is DemoNight.MARKET else hybrid_demo
        raise typer.Exit(play(store, as_json=as_json).exit_code)
    console = Console(soft_wrap=True, highlight=False)
    if not as_json:
        console.print(INTRODUCTION)
    outcome = asyncio.run(_night(store, QUICK_ROWS if quick else None, as_json=as_json))
    if as_json:
        say_outcome(outcome, as_json=True)
    else:
        tell(outcome, console)
    raise typer.Exit(outcome.exit_code)


async def _night(store: str, limit: int | None, *, as_json: bool) -> Outcome:
    catalog = chosen_catalog(demo_catalog(), limit=limit)
    request = Request(catalog, name=batch_name(), is_fresh=True)
    async with stand_ins(render_s=RENDER_S) as urls:
        # Whatever is set for real nights: these workers bring nothing anywhere.
        settings = load_settings(store=store, worker_urls=urls, upload=Upload.THROUGH)
        return await watch(request, settings, as_json=as_json)


def tell(outcome: Outcome, console: Console) -> None:
    """What came of the night: the outcome, a query with its answer, the images, all in one."""
    for line in outcome_lines(outcome):
        console.print(line, markup=False)
    store = open_store(load_settings(store=outcome.store))
    console.print(f'\n$ nightkiln query "{QUERY}" --store {store.uri}', markup=False)
    show(store, QUERY, console)
    sheet, count = contact_sheet(store, outcome.batch)
    console.print(f"images: {store.where('images')}/{outcome.batch}", markup=False)
    console.print(f"contact sheet of all {count}: {sheet}", markup=False)
