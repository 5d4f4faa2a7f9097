"""``nightkiln up``: a whole control room on this computer, with one command."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from nightkiln.cli.options import CheckoutOption, JsonOption
from nightkiln.night import ALL_DONE, BAD_INPUT
from nightkiln.room.book import Room, RoomBook
from nightkiln.room.checking import Wanted
from nightkiln.room.database import database_of
from nightkiln.room.environment import DATABASE
from nightkiln.room.opening import Opening
from nightkiln.room.standing import UP, Standing, standing
from nightkiln.settings import load_settings


def up(
    *,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            metavar="PORT",
            min=1,
            max=65535,
            help="Of the server and its page. Default: as last time, else 4200.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            "--host",
            metavar="ADDRESS",
            help="Where it listens. Default: as last time, else 127.0.0.1, which only this "
            "computer reaches; elsewhere PREFECT_SERVER_API_AUTH_STRING must be set.",
            show_default=False,
        ),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            "--database",
            metavar="URL",
            help="postgresql://user:password@host:5432/name, or sqlite, a file of its own. "
            "NIGHTKILN_DATABASE says the same, and keeps the password off the command line. "
            "Default: as last time, else sqlite.",
            show_default=False,
        ),
    ] = None,
    checkout: CheckoutOption = Path(),
    notify: Annotated[
        str | None,
        typer.Option(
            "--notify",
            metavar="BLOCK",
            help="Block that is told of receipts, refused nights, failures and crashes, as "
            "type/name, such as slack-webhook/ops; none: nobody any more. Default: as last time, "
            "else nobody.",
            show_default=False,
        ),
    ] = None,
    adhoc_limit: Annotated[
        int | None,
        typer.Option(
            "--adhoc-limit",
            metavar="N",
            min=1,
            max=1000,
            help="How many runs from a form (adhoc, retry, quote, rehearse) work at once; more of "
            "them wait. Nights, their controllers and reap never wait. Default: as it is, else 4.",
            show_default=False,
        ),
    ] = None,
    status: Annotated[
        bool, typer.Option("--status", help="Say how it stands, and change nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Start a whole control room here: Prefect's server and worker, and all they need to know.

    Server (tuned, loopback only), work pool, limits, deployments of prefect.yaml, automations,
    Prefect worker. Called again it starts what has died, adds what is missing and changes nothing
    else. The worker, and so every run, has the environment of this call: keys and NIGHTKILN_*; the
    server has none of it. Both survive the terminal; `nightkiln down` ends them.

    Example: nightkiln up

    Example: nightkiln up --port 4310 --notify slack-webhook/ops

    Example: nightkiln up --status --json

    Exit codes: 0 it is up, 2 something is missing or in the way (with --status: not all is up),
    3 a part of it failed.
    """
    settings = load_settings()
    book = RoomBook(settings.state_folder)
    if not status:
        room, user = book.read(), dict(os.environ)
        Opening(
            _wanted(room, user, port=port, host=host, database=database, checkout=checkout,
                    notify=notify, adhoc_limit=adhoc_limit),
            book,
            user,
            lambda part, what: _told(part, what, as_json=as_json),
        ).open()  # fmt: skip
    found = standing(book, os.environ)
    _show(found, as_json=as_json)
    raise typer.Exit(ALL_DONE if found.is_up else BAD_INPUT)


def _wanted(
    room: Room,
    user: dict[str, str],
    *,
    port: int | None,
    host: str | None,
    database: str | None,
    checkout: Path,
    notify: str | None,
    adhoc_limit: int | None,
) -> Wanted:
    """What was asked for, else what was there last time."""
    asked = database if database is not None else user.get(DATABASE, room.database)
    return Wanted(
        checkout=checkout.absolute(),
        host=host if host is not None else room.host,
        port=port if port is not None else room.port,
        database=database_of(asked),
        notify=notify if notify is not None else "",
        adhoc_limit=adhoc_limit,
    )


def _told(part: str, what: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"event": "step", "part": part, "what": what}))
    else:
        typer.echo(f"{part}: {what}")


def _show(found: Standing, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"event": "room", "is_up": found.is_up, **asdict(found)}))
        return
    if found.server == UP:
        typer.echo(f"The page: {found.ui}")
        typer.echo(f"For other programs: export PREFECT_API_URL={found.api}")
    typer.echo(f"Prefect server {found.server}, Prefect worker {found.worker}; logs: {found.logs}")
    typer.echo(f"Prefect's database: {found.database}")
    if found.server == UP:
        typer.echo(f"Deployments: {', '.join(found.deployments) or 'none'}")
        typer.echo(f"Automations: {', '.join(found.automations) or 'none'}")
        limit = found.adhoc_limit if found.adhoc_limit is not None else "any number"
        typer.echo(f"At once, of runs from a form: {limit}")
        typer.echo(f"Money: {found.night}")
    if not found.is_up:
        typer.echo("nightkiln up starts what is down")
