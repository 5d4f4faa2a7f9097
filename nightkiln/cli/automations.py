"""``nightkiln automations``: what Prefect's server does by itself, also on one of your own."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from nightkiln.cli.options import JsonOption
from nightkiln.room.asking import PrefectApi
from nightkiln.room.automations import applied, summed
from nightkiln.room.book import RoomBook
from nightkiln.room.environment import AUTH
from nightkiln.room.opening import AUTOMATIONS, api_of
from nightkiln.settings import load_settings

API_URL, API_KEY = "PREFECT_API_URL", "PREFECT_API_KEY"


def automations(
    *,
    notify: Annotated[
        str,
        typer.Option(
            "--notify",
            metavar="BLOCK",
            help="Block that is told of receipts, refused nights, failures and crashes, as "
            "type/name, such as slack-webhook/ops.",
        ),
    ] = "none",
    file: Annotated[
        Path,
        typer.Option("--file", metavar="FILE", help="What is applied, each by its name."),
    ] = AUTOMATIONS,
    as_json: JsonOption = False,
) -> None:
    """Apply deploy/automations.yaml to the server that PREFECT_API_URL names, else to the room's.

    For a server of your own or Prefect Cloud (PREFECT_API_AUTH_STRING or PREFECT_API_KEY open it);
    `nightkiln up` does it by itself. Each is applied by its name: made if it is missing, changed if
    the file has changed, and left alone otherwise: what you change or switch off in the UI stays.

    Example: nightkiln automations --notify slack-webhook/ops

    Exit codes: 0 applied, 2 bad input, 3 the server refuses, or lacks the block or a deployment.
    """
    done = applied(file, api_named(), notify=notify)
    if as_json:
        for name, what in done:
            typer.echo(json.dumps({"event": "automation", "name": name, "what": what}))
        return
    for line in summed(done):
        typer.echo(f"automations: {line}")


def api_named() -> PrefectApi:
    """Of the server that PREFECT_API_URL names, else of the room's."""
    url = os.environ.get(API_URL)
    if not url:
        return api_of(RoomBook(load_settings().state_folder).read(), os.environ)
    key = os.environ.get(API_KEY, "")
    return PrefectApi(url, auth=os.environ.get(AUTH, ""), key=key)
