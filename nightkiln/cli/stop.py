"""``nightkiln stop``: a request that the run finds in the store, wherever it runs."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer

from nightkiln.cli.options import JsonOption, StoreOption
from nightkiln.core.errors import BadInput, Problem
from nightkiln.settings import load_settings
from nightkiln.store.claims import request_stop
from nightkiln.wiring import open_store


def stop(
    batch: Annotated[
        str, typer.Argument(metavar="BATCH", help="Its name, as `nightkiln status` shows it.")
    ],
    *,
    now: Annotated[
        bool, typer.Option("--now", help="Hand running jobs back instead of finishing them.")
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the run that works on a batch to stop; what is made is committed.

    The run, wherever it runs, sees it within a second or two, finishes what is being rendered and
    ends with exit code 3; the same `nightkiln run` later does what is left.

    Example: nightkiln stop parti-2026-11-21 --store results

    Exit codes: 0 it was asked, 2 nobody works on this batch.
    """
    opened = open_store(load_settings(store=store))
    asked_s = time.time()
    claim = request_stop(opened.blobs, batch, now=now, requested_s=asked_s)
    if claim is None:
        raise BadInput([Problem(batch, "nobody works on this batch", "see 'nightkiln status'")])
    if as_json:
        typer.echo(json.dumps({"event": "stop_requested", "batch": batch, "now": now}))
    else:
        typer.echo(f"asked {claim.describe(asked_s)} to stop {'now' if now else 'in order'}")
