"""The command line: one module per command, one place where errors become exit codes."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console

from nightkiln import __version__
from nightkiln.cli import (
    automations,
    check,
    compare,
    demo,
    deploy,
    doctor,
    down,
    export,
    gallery,
    init,
    leases,
    market,
    modal,
    object_info,
    query,
    quote,
    reap,
    receipt,
    rehearse,
    replay,
    retry,
    run,
    schema,
    shell,
    status,
    stop,
    store,
    trying,
    up,
    why,
)
from nightkiln.core.errors import BadInput, ClaimHeld, NightkilnError
from nightkiln.night import BAD_INPUT, STOPPED_EARLY

app = typer.Typer(
    name="nightkiln",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help=(
        "Fires a catalog of prompts overnight: ComfyUI batches whose verified images land in a "
        "store that plain DuckDB can query.\n\n"
        "First steps:  [bold]nightkiln demo[/bold]  shows a whole night without a GPU;  "
        "[bold]nightkiln init[/bold]  makes a catalog from a workflow and a list of prompts;  "
        "[bold]nightkiln try[/bold]  renders and measures a few rows;  "
        "[bold]nightkiln run[/bold]  renders it;  [bold]nightkiln query[/bold]  asks what came out."
        "\n\n"
        "Settings: flags, else NIGHTKILN_STORE, NIGHTKILN_WORKER_URLS, NIGHTKILN_TIMEZONE, "
        "NIGHTKILN_BY, NIGHTKILN_BUDGET and so on in the environment, else store, worker_urls, "
        "timezone, by, budget and so on in ./nightkiln.toml.\n\n"
        "Exit codes: 0 all done, 1 some jobs failed, 2 bad input (nothing started), "
        "3 stopped early."
    ),
)
app.command("init")(init.init)
app.command("check")(check.check)
app.command("try")(trying.try_rows)
app.command("quote")(quote.quote)
app.command("rehearse")(rehearse.rehearse)
app.command("compare")(compare.compare)
app.command("run")(run.run)
app.command("retry")(retry.retry)
app.command("status")(status.status)
app.command("stop")(stop.stop)
app.command("leases")(leases.leases)
app.command("reap")(reap.reap)
app.command("query")(query.query)
# What is typed behind it is a question for `query`, which it says.
app.command("sql", context_settings={"allow_extra_args": True})(shell.sql)
app.command("export")(export.export_outputs)
app.command("receipt")(receipt.receipt)
app.command("gallery")(gallery.gallery)
app.command("why")(why.why)
app.command("replay")(replay.replay_stories)
app.command("up")(up.up)
app.command("down")(down.down)
app.command("deploy")(deploy.deploy)
app.command("automations")(automations.automations)
app.command("demo")(demo.demo)
app.command("market")(market.market)
app.command("doctor")(doctor.doctor)
app.add_typer(modal.app, name="modal")
app.add_typer(store.app, name="store")
app.add_typer(schema.app, name="schema")
app.add_typer(object_info.app, name="object-info")


def _version(is_asked: bool) -> None:  # noqa: FBT001 - typer's callback
    if is_asked:
        typer.echo(f"nightkiln {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the command."""
    del version


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; every error of ours becomes a message and an exit code.

    ``arguments``: instead of those of this process.
    """
    logging.getLogger("stamina").setLevel(logging.ERROR)  # its retries are ours to report
    given = list(arguments if arguments is not None else sys.argv[1:])
    try:
        app(given)
    except NightkilnError as error:
        sys.exit(_told(error, as_json="--json" in given))


def _told(error: NightkilnError, *, as_json: bool) -> int:
    exit_code = BAD_INPUT if isinstance(error, BadInput | ClaimHeld) else STOPPED_EARLY
    if as_json:
        sys.stdout.write(json.dumps({"event": "error", "error": str(error)}) + "\n")
        return exit_code
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    if isinstance(error, BadInput) and len(error.problems) == 1:
        console.print(f"nothing was started: {error}", style="red", markup=False)
    elif isinstance(error, BadInput):
        console.print(f"[red]{len(error.problems)} problems; nothing was started:[/red]")
        for problem in error.problems:
            console.print(f"  {problem}", markup=False)
    else:
        console.print(f"error: {error}", style="red", markup=False)
    return exit_code
