"""``nightkiln export``: finished outputs as files and data sets that other tools read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal as readable
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from nightkiln.cli.options import JsonOption, StoreOption
from nightkiln.export.exporting import PROBLEMS_SHOWN_MAX, Exported, export
from nightkiln.export.exporting import Progress as Far
from nightkiln.export.request import (
    DEFAULT_CAPTION,
    DEFAULT_NAME,
    SHARD_BYTES,
    SHARD_ROWS_MAX,
    Format,
    Request,
)
from nightkiln.night import ALL_DONE, SOME_FAILED, STOPPED_EARLY
from nightkiln.settings import load_settings
from nightkiln.wiring import open_store

MB = 1_000_000


def export_outputs(
    *,
    to: Annotated[
        Path,
        typer.Option(
            "--to", metavar="FOLDER", help="A new folder for the export.", show_default=False
        ),
    ],
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            metavar="webdataset|parquet|hf|files|csv",
            help="Tar shards, Parquet with the files in it, a folder for Hugging Face's "
            "load_dataset, loose files with captions beside them, or a table without files.",
            show_default=False,
        ),
    ],
    where: Annotated[
        str,
        typer.Option(
            "--where",
            metavar="SQL",
            help="A condition over the columns of jobs and outputs, the catalog's own among them. "
            "Default: every finished output.",
            show_default=False,
        ),
    ] = "",
    name: Annotated[
        str,
        typer.Option(
            "--name",
            metavar="TEMPLATE",
            help="What outputs are called: columns in braces, such as {id}-{seed}.png or "
            "{category}/{row:06}. {id} is the job's id where the catalog has no such column.",
        ),
    ] = DEFAULT_NAME,
    caption: Annotated[
        str, typer.Option("--caption", metavar="COLUMN", help="The column that captions hold.")
    ] = DEFAULT_CAPTION,
    columns: Annotated[
        str,
        typer.Option(
            "--columns",
            metavar="NAMES",
            help="Metadata to pass on, with commas between them. Default: all columns but "
            "bookkeeping and names of machines.",
            show_default=False,
        ),
    ] = "",
    shard_rows: Annotated[
        int | None,
        typer.Option(
            "--shard-rows",
            min=1,
            max=SHARD_ROWS_MAX,
            metavar="COUNT",
            help="Outputs in a shard at most. Default: 10000, in csv 100000; loose files become "
            "durable 1000 at a time.",
            show_default=False,
        ),
    ] = None,
    shard_mb: Annotated[
        int,
        typer.Option("--shard-mb", min=1, metavar="MB", help="And their bytes together, about."),
    ] = SHARD_BYTES // MB,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take finished outputs away, with captions and metadata.

    Every file is compared with the sha256 in its row on the way; what is damaged is named and left
    out. The same command goes on where one was stopped, and the same store gives the same bytes.
    In the end `sha256sum -c SHA256SUMS` in the folder says whether all is still well.

    Example: nightkiln export --where "batch = 'mynight'" --format files --name '{id}-{seed}.png'
    --to mynight-png

    Example: nightkiln export --where "category = 'Animals'" --format hf --to animals

    Exit codes: 0 exported, 1 some outputs are missing or damaged, 2 bad input (nothing was
    written), 3 stopped early, or the store or the disk failed; the same command goes on.
    """
    request = Request(
        folder=to,
        format=form,
        where=where,
        name=name,
        caption=caption,
        columns=tuple(part.strip() for part in columns.split(",") if part.strip()),
        shard_rows=shard_rows,
        shard_bytes=shard_mb * MB,
    )
    opened = open_store(load_settings(store=store))
    try:
        if as_json:
            done = export(opened, request, tell=_lines())
            _as_lines(done, request)
        else:
            with _bar() as bar:
                done = export(opened, request, tell=_moving(bar))
            _show(done, request)
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on", err=True)
        raise typer.Exit(STOPPED_EARLY) from None
    raise typer.Exit(SOME_FAILED if done.totals.problems else ALL_DONE)


def _bar() -> Progress:
    """On stderr, and only where somebody watches."""
    columns = (
        BarColumn(30),
        TextColumn("{task.completed}/{task.total} outputs"),
        TextColumn("{task.fields[far]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _moving(bar: Progress) -> Callable[[Far], None]:
    task = bar.add_task("", total=None, far="asking the store")

    def tell(far: Far) -> None:
        said = f"{readable(far.bytes_done)} of {readable(far.bytes)}"
        bar.update(task, completed=far.rows_done, total=far.rows, far=said)

    return tell


def _lines() -> Callable[[Far], None]:
    """A line per part."""
    last = -1

    def tell(far: Far) -> None:
        nonlocal last
        if far.parts_done != last:
            last = far.parts_done
            typer.echo(json.dumps({"event": "progress", **asdict(far)}))

    return tell


def _as_lines(done: Exported, request: Request) -> None:
    for one in done.troubles:
        typer.echo(json.dumps({"event": "not_exported", **asdict(one)}))
    facts = {"folder": str(request.folder), "format": request.format, "was_there": done.was_there}
    typer.echo(json.dumps({"event": "exported", **facts, **asdict(done.totals)}))


def _show(done: Exported, request: Request) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for one in done.troubles:
        console.print(Text(f"not exported: {one.uri}: {one.what}", style="red"))
    if done.totals.problems > PROBLEMS_SHOWN_MAX:
        console.print(f"... and more; {request.folder}/problems.jsonl names all")
    totals = done.totals
    said = f"{totals.samples} outputs ({readable(totals.bytes)}) in {totals.files} files"
    if done.was_there:
        console.print(Text(f"nothing to do: {request.folder} holds {said}"))
    else:
        console.print(Text(f"{said} in {request.folder}"))
    if totals.problems:
        fix = "the same command tries them again"
        console.print(Text(f"{totals.problems} not exported; {fix}", style="red"))
