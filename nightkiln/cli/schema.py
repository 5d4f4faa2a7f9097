"""``nightkiln schema``: what may stand in a file, as JSON Schema."""

from __future__ import annotations

import json

import typer

app = typer.Typer(no_args_is_help=True, help="JSON Schema of the files that people write.")

EDITOR_LINE = "# yaml-language-server: $schema=catalog.schema.json"


@app.callback()
def _schema() -> None:
    """JSON Schema of the files that people write."""


@app.command("catalog")
def catalog() -> None:
    """Print the JSON Schema of catalog.yaml.

    Editors complete and check with it when it lies beside catalog.yaml, whose first line then is
    # yaml-language-server: $schema=catalog.schema.json

    Example: nightkiln schema catalog > mynight/catalog.schema.json
    """
    from nightkiln.catalog.schema import CatalogFile

    typer.echo(json.dumps(CatalogFile.model_json_schema(), indent=2))
