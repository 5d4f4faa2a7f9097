"""``nightkiln deploy``: what prefect.yaml declares, on a Prefect server of your own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import typer

from nightkiln.cli.automations import api_named
from nightkiln.cli.options import CheckoutOption, JsonOption
from nightkiln.core.errors import RoomTrouble
from nightkiln.room.checking import prefect_command
from nightkiln.room.deploying import DEPLOY_ALL, kept_off
from nightkiln.room.opening import LOG_BYTES_SHOWN, declared


def deploy(
    *,
    checkout: CheckoutOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """Deploy what prefect.yaml declares, and leave off the schedules that are switched off.

    `prefect deploy --all`, which this calls, alone would switch on every schedule that has
    `active: true` in the file, also one that somebody has switched off in the UI. On the server
    that PREFECT_API_URL names (PREFECT_API_AUTH_STRING or PREFECT_API_KEY open it), else on the
    room's; `nightkiln up` does it by itself.

    Example: nightkiln deploy

    Exit codes: 0 deployed, 2 bad input, 3 it failed.
    """
    names, api = declared(checkout), api_named()
    with kept_off(api, lambda what: _told(what, as_json=as_json)):
        done = subprocess.run(
            prefect_command(*DEPLOY_ALL),
            cwd=checkout,
            env={**os.environ, "PREFECT_API_URL": api.url},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode != 0:
        said = done.stdout.decode(errors="replace")[-LOG_BYTES_SHOWN:]
        raise RoomTrouble(f"prefect {' '.join(DEPLOY_ALL)} failed:\n{said}")
    _told(f"deployed: {', '.join(sorted(names))}", as_json=as_json)


def _told(what: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"event": "deployment", "what": what}))
    else:
        typer.echo(f"deployments: {what}")
