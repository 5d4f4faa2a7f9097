"""``nightkiln demo``: a whole night in half a minute, without a GPU, a key or a network."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

import typer
from rich.console import Console

from nightkiln.cli.query import show
from nightkiln.cli.run import outcome_lines, watch
from nightkiln.demo import QUERY, RENDER_S, contact_sheet, demo_catalog, stand_ins
from nightkiln.night import Outcome
from nightkiln.settings import Settings, load_settings
from nightkiln.wiring import Request, chosen_catalog, open_store

QUICK_ROWS = 8


def demo(
    *,
    store: Annotated[
        str, typer.Option("--store", help="Folder for the results.")
    ] = "nightkiln-demo",
    quick: Annotated[
        bool, typer.Option("--quick", help=f"Only the first {QUICK_ROWS} prompts.")
    ] = False,
) -> None:
    """Render 24 prompts on two stand-in workers, of which one misbehaves.

    The stand-ins answer as ComfyUI does and draw small pictures instead of rendering. One of them
    delivers a damaged image, raises an error and dies half-way; every job is done all the same.
    """
    console = Console(soft_wrap=True, highlight=False)
    console.print("two stand-in workers; one will fail, damage an image, and die")
    outcome = asyncio.run(_night(store, QUICK_ROWS if quick else None))
    for line in outcome_lines(outcome):
        console.print(line, markup=False)
    _report(load_settings(store=store), outcome, console)
    raise typer.Exit(outcome.exit_code)


async def _night(store: str, limit: int | None) -> Outcome:
    catalog = chosen_catalog(demo_catalog(), limit=limit)
    # A name with the time makes every demo a batch of its own, with something to see.
    request = Request(catalog, name=f"demo-{time.strftime('%Y%m%dT%H%M%S')}", is_fresh=True)
    async with stand_ins(render_s=RENDER_S) as urls:
        settings = load_settings(store=store, worker_urls=urls)
        return await watch(request, settings, as_json=False)


def _report(settings: Settings, outcome: Outcome, console: Console) -> None:
    opened = open_store(settings)
    console.print(f'\n$ nightkiln query "{QUERY}"', markup=False)
    show(opened, QUERY, console)
    sheet = opened.root / f"contact-sheet-{outcome.batch}.png"
    count = contact_sheet(opened, outcome.batch, sheet)
    console.print(f"images: {opened.root / 'images' / outcome.batch}", markup=False)
    console.print(f"contact sheet of all {count}: {sheet}", markup=False)
