"""Options that several commands share, spelled once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
