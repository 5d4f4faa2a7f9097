"""``nightkiln receipt``: what a batch came to, from its store."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

from nightkiln.cli.batches import named_batch
from nightkiln.cli.options import JsonOption, StoreOption
from nightkiln.core.errors import BadInput, Problem
from nightkiln.deadline import shown_zone
from nightkiln.receipt import receipt_of
from nightkiln.receipt_page import page
from nightkiln.settings import load_settings
from nightkiln.wiring import open_store


def receipt(
    batch: Annotated[
        str,
        typer.Argument(metavar="BATCH", help="Its name, or an unambiguous beginning of it."),
    ],
    *,
    store: StoreOption = None,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="The page itself, to be kept or sent.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what a batch came to: jobs, failures, money, and whether its promises were kept.

    Over all its runs, read from the store, also while one is at work: how many jobs are done,
    failed (why, with an example) and left; USD by provider and by what it was for, start-up and
    idle machines included; each run against its quote, its budget and its deadline; what fell back
    to serverless GPUs and why; and the SQL to dig deeper. The cost is the figure that counts in
    the store: by our own count until a provider's bill is final, with what is billed beside it.

    Example: nightkiln receipt parti-2026-11-21 --store results

    Example: nightkiln receipt parti --markdown > receipt.md

    Example: nightkiln receipt parti --json | jq .usd

    Exit codes: 0 told, 2 the store knows no such batch, 3 there is no such store.
    """
    if as_markdown and as_json:
        raise BadInput([Problem("--markdown", "and --json are two things", "give one of them")])
    settings = load_settings(store=store)
    opened = open_store(settings)
    found = receipt_of(opened, named_batch(opened, batch))
    if as_json:
        typer.echo(json.dumps(found.as_object()))
        return
    said = page(found, zone=shown_zone(settings.timezone))
    if as_markdown:
        typer.echo(said, nl=False)
        return
    Console().print(Markdown(said))
