"""Options that several commands share, spelled once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nightkiln.core.errors import BadInput, Problem

CatalogArgument = Annotated[
    Path,
    typer.Argument(
        metavar="CATALOG",
        help="Folder with catalog.yaml, prompts and workflow; `nightkiln init` makes one.",
        show_default=False,
    ),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="DIR",
        # Not in brackets: those are for rich's colours, and would not be shown.
        help="Folder with results. Default: NIGHTKILN_STORE, else nightkiln-store.",
        show_default=False,
    ),
]
WorkerUrlOption = Annotated[
    list[str] | None,
    typer.Option(
        "--worker-url",
        metavar="URL",
        help="Address of a running ComfyUI; give it again for each further one. "
        "Default: NIGHTKILN_WORKER_URLS, with commas between them.",
        show_default=False,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON, an object a line.", show_default=False)
]
LimitOption = Annotated[
    int | None,
    typer.Option("--limit", min=1, metavar="ROWS", help="Only the first so many rows."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="INPUT=VALUE",
        help="Give an input of the catalog this value in every row, such as steps=8; repeatable.",
    ),
]


def parsed_overrides(texts: list[str] | None) -> dict[str, str]:
    """What ``--set steps=4 --set cfg=7`` says.

    Raises:
        BadInput: one of them is not ``<input>=<value>``.
    """
    parsed: dict[str, str] = {}
    for text in texts if texts is not None else ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise BadInput([Problem("--set", f"{text!r} has no '='", "write --set steps=4")])
        parsed[name] = value
    return parsed
