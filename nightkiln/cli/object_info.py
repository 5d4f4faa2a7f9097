"""``nightkiln object-info``: a worker's node definitions, kept for preflight."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from nightkiln.catalog.definitions import SAVED_FILE, fetch_definitions
from nightkiln.cli.options import JsonOption

app = typer.Typer(no_args_is_help=True, help="Node definitions, to check catalogs against.")


@app.callback()
def _object_info() -> None:
    """Node definitions, to check catalogs against."""


@app.command("save")
def save(
    *,
    worker_url: Annotated[str, typer.Option(metavar="URL", help="Address of a running ComfyUI.")],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Where to; as nodes.json beside a catalog.yaml it is found there.",
        ),
    ] = Path(SAVED_FILE),
    as_json: JsonOption = False,
) -> None:
    """Save what a ComfyUI says of its nodes, so that a catalog can be checked without it.

    A catalog that uses custom nodes needs this once; a file named nodes.json beside catalog.yaml
    is used without being asked for.

    Example: nightkiln object-info save --worker-url http://127.0.0.1:8188 -o mynight/nodes.json

    Exit codes: 0 saved, 2 no ComfyUI answers there.
    """
    nodes = fetch_definitions(worker_url)
    text = json.dumps(nodes, sort_keys=True, separators=(",", ":"))
    partial = output.with_name(output.name + ".partial")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(output)
    if as_json:
        found = {"path": str(output), "node_classes": len(nodes), "bytes": len(text) + 1}
        typer.echo(json.dumps(found))
    else:
        typer.echo(f"{len(nodes)} node classes saved in {output}")
