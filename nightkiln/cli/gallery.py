"""``nightkiln gallery``: a page to look through a batch."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from nightkiln.cli.batches import named_batch
from nightkiln.cli.options import JsonOption, StoreOption
from nightkiln.core.errors import BadInput, Problem
from nightkiln.gallery import TILES_MAX, Built, Facts, Link
from nightkiln.gallery.making import (
    EVERYTHING,
    HOURS_MAX,
    make_gallery,
    usual_folder,
    usual_link,
)
from nightkiln.settings import load_settings
from nightkiln.store.store import Store
from nightkiln.wiring import open_store


def gallery(
    batch: Annotated[
        str,
        typer.Argument(metavar="BATCH", help="Its name, or an unambiguous beginning of it."),
    ],
    *,
    store: StoreOption = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            metavar="DIR",
            help="Where to put the page. Default: gallery/BATCH in the store; of one in S3 "
            "./gallery-BATCH.",
            show_default=False,
        ),
    ] = None,
    where: Annotated[
        str,
        typer.Option(
            metavar="CONDITION",
            help="Only these jobs: a condition in SQL over the view jobs, such as "
            "\"status = 'failed'\".",
            show_default=False,
        ),
    ] = EVERYTHING,
    catalog: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The batch's catalog, for the commands that render a picture again; without it "
            "they say CATALOG there.",
            show_default=False,
        ),
    ] = None,
    hours: Annotated[
        int,
        typer.Option(
            "--links-last",
            metavar="HOURS",
            min=1,
            max=HOURS_MAX,
            help="Of a store in S3: how long the page's addresses of full-size images work.",
        ),
    ] = HOURS_MAX,
    as_json: JsonOption = False,
) -> None:
    """Build a page to look through a batch: thumbnails, filters, seeds side by side, failures.

    A folder with an index.html that a browser opens as a file: no server, and no address but that
    of the images. Search and filter by prompt, catalog columns, seed, machine, cost, status; mark
    with a key, and export the marks as a list of job ids. Press ? on the page for its keys.

    Thumbnails are made once per image, so building it anew after the next run, or after a Ctrl-C,
    is quick. Of more than 50,000 pictures the first are shown; --where chooses others.

    Example: nightkiln gallery parti-2026-11-21 --store results

    Example: nightkiln gallery parti --store results --where "status = 'failed'" --to failures

    Exit codes: 0 built, 2 the store knows no such batch or the condition is wrong, 3 there is no
    such store, or the page cannot be written.
    """
    began_s = time.monotonic()
    opened = open_store(load_settings(store=store))
    name = named_batch(opened, batch)
    folder = to if to is not None else usual_folder(opened, name)
    link = usual_link(opened, folder, hours=hours)
    facts, built = _built(opened, name, folder, where=where, catalog=catalog, link=link)
    if as_json:
        fields = {**asdict(built), "index": str(built.index), "left_out": facts.tiles - built.tiles}
        told = {"batch": name, **fields, "elapsed_s": round(time.monotonic() - began_s, 3)}
        typer.echo(json.dumps(told))
        return
    for said in _sentences(facts, built):
        typer.echo(said)
    if opened.is_remote:
        typer.echo(f"whoever has the page can see its images for {hours} hours; then build it anew")


def _built(
    store: Store, batch: str, folder: Path, *, where: str, catalog: Path | None, link: Link
) -> tuple[Facts, Built]:
    if catalog is not None and not catalog.is_dir():
        raise BadInput([Problem("--catalog", f"{catalog}: there is no such folder", "see --help")])
    with Console(stderr=True).status("thumbnails ...") as status:

        def begin(facts: Facts) -> Callable[[int], None]:
            return _progress(status.update, min(facts.tiles, TILES_MAX))

        return make_gallery(
            store, batch, folder, link=link, where=where, catalog=catalog, begin=begin
        )


def _progress(say: Callable[[str], None], total: int) -> Callable[[int], None]:
    def told(done: int) -> None:
        if sys.stderr.isatty():
            say(f"thumbnails {done:,} of {total:,}")

    return told


def _sentences(facts: Facts, built: Built) -> list[str]:
    failed = f", {facts.failed:,} failed jobs" if facts.failed else ""
    made = f"{built.thumbnails_made:,} thumbnails made, {built.thumbnails_kept:,} were there"
    said = [f"{built.tiles:,} shown{failed}; {made}"]
    if built.without_thumbnail:
        why = "no images, missing, or too large"
        said.append(f"{built.without_thumbnail:,} files have none: {why}")
    if facts.tiles > built.tiles:
        said.append(f"{facts.tiles - built.tiles:,} more are left out; --where chooses others")
    return [*said, f"open {built.index.as_uri()}"]
