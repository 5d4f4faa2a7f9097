"""Options that several commands share, spelled once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nightkiln.core.errors import BadInput, Problem

CatalogArgument = Annotated[
    Path, typer.Argument(help="Folder with catalog.yaml, prompts and workflow.", show_default=False)
]
StoreOption = Annotated[
    str | None,
    typer.Option("--store", help="Folder with results. [env: NIGHTKILN_STORE]", show_default=False),
]
WorkerUrlOption = Annotated[
    list[str] | None,
    typer.Option(
        "--worker-url",
        help="Address of a running ComfyUI; may be given again. [env: NIGHTKILN_WORKER_URLS]",
        show_default=False,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="One JSON object a line, for programs.", show_default=False)
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=1, help="Only the first so many rows.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="INPUT=VALUE", help="Hold an input of the catalog constant."),
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
