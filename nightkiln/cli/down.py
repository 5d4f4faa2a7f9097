"""``nightkiln down``: end what ``nightkiln up`` has started, and only that."""

from __future__ import annotations

import json
import os
from typing import Annotated

import typer

from nightkiln.cli.options import JsonOption
from nightkiln.core.errors import BadInput, Problem
from nightkiln.room.book import RoomBook
from nightkiln.room.closing import Closing, How
from nightkiln.settings import load_settings


def down(
    *,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until the runs at work are over by themselves.")
    ] = False,
    now: Annotated[
        bool,
        typer.Option("--now", help="Hand back what is being rendered instead of finishing it."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """End the Prefect worker and the server that `nightkiln up` has started, and nothing else.

    Runs at work are cancelled first, as by the button in the UI: what is made is committed,
    machines are given back, and the same parameters resume the batch later. Results, Prefect's
    history and what is scheduled stay; `nightkiln up` goes on with them.

    Example: nightkiln down

    Exit codes: 0 nothing of it runs any more, 2 bad input, 3 something does not end.
    """
    if wait and now:
        raise BadInput(
            [Problem("nightkiln down", "was given --wait and --now", "give one of them")]
        )
    how = How.WAIT if wait else How.NOW if now else How.IN_ORDER

    def say(part: str, what: str) -> None:
        line = json.dumps({"event": "step", "part": part, "what": what})
        typer.echo(line if as_json else f"{part}: {what}")

    book = RoomBook(load_settings().state_folder)
    parts = Closing(book, os.environ, say, how).close()
    if as_json:
        typer.echo(json.dumps({"event": "down", "ended": parts}))
    elif parts:
        typer.echo(f"down: {' and '.join(parts)} ended")
    else:
        typer.echo(f"nothing was up that nightkiln up has started (book: {book.folder})")
