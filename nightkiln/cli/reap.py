"""``nightkiln reap``: give back machines that nobody wants; shows them first."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from nightkiln.cli.leases import as_object, table
from nightkiln.cli.options import FleetOption, JsonOption
from nightkiln.core.reaping import UNKNOWN_S, Fate
from nightkiln.night import ALL_DONE, SOME_FAILED, STOPPED_EARLY
from nightkiln.reap import ENDED_MAX, Swept
from nightkiln.settings import load_settings
from nightkiln.sighting import Sight
from nightkiln.sweeping import looked, swept


def reap(
    *,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do it. Without it, only what would be done.")
    ] = False,
    fleet: FleetOption = None,
    unknown_hours: Annotated[
        float,
        typer.Option(
            min=1.0,
            metavar="HOURS",
            help="Machines of the fleet that this computer's book does not know are given back "
            "when they are older than this; younger ones are only told.",
        ),
    ] = UNKNOWN_S / 3600,
    most: Annotated[
        int,
        typer.Option(
            "--max", min=1, max=1000, metavar="COUNT", help="Give back no more at once than this."
        ),
    ] = ENDED_MAX,
    as_json: JsonOption = False,
) -> None:
    """Give back rented machines that nobody wants any more.

    A machine is taken away only if its run has ended, or has given no sign of life for as long as
    its machines need to delete themselves (15 minutes), or if it is past its agreed end, or dearer
    than agreed and than allowed. What a living run holds is never touched, whoever started it.
    Machines of other fleets, and such as this computer never rented, are told and left alone.

    Example: nightkiln reap

    Example: nightkiln reap --yes

    Exit codes: 0 nothing is left that nobody wants, 1 there is (a dry run shows it), 2 there is
    nobody to ask, 3 a service did not answer, or a machine could not be given back.
    """
    settings = load_settings(fleet=fleet)
    unknown_s = unknown_hours * 3600
    if not yes:
        sight = asyncio.run(looked(settings, unknown_s=unknown_s, is_needed=True))
        _dry(sight, as_json=as_json)
        left = bool(sight.of(Fate.END, Fate.CLOSE))
        raise typer.Exit(STOPPED_EARLY if sight.errors else SOME_FAILED if left else ALL_DONE)
    found = asyncio.run(swept(settings, unknown_s=unknown_s, ended_max=most))
    if as_json:
        _as_lines(found)
    else:
        _show(found)
    is_well = not found.sight.errors and not found.failed
    raise typer.Exit(STOPPED_EARLY if not is_well else SOME_FAILED if found.left else ALL_DONE)


def _dry(sight: Sight, *, as_json: bool) -> None:
    now_s, wanted = time.time(), sight.of(Fate.END, Fate.CLOSE)
    if as_json:
        for finding in sight.findings:
            typer.echo(json.dumps({"event": "verdict", **as_object(finding, now_s)}))
        _errors_as_lines(sight)
        return
    console = Console(highlight=False)
    if sight.findings:
        console.print(table(sight.findings, now_s))
    _errors(sight, console)
    if wanted:
        console.print(f"{len(wanted)} would be given back; --yes does it")
    elif not sight.errors:
        console.print("nothing to give back")


def _show(found: Swept) -> None:
    console, now_s = Console(highlight=False), time.time()
    if found.sight.findings:
        console.print(table(found.sight.findings, now_s))
    for finding in found.ended:
        console.print(Text(f"given back, and seen to be gone: {finding.lease_id}", style="green"))
    for finding in found.closed:
        console.print(Text(f"gone already, now also in the book: {finding.lease_id}"))
    for lease_id, error in found.failed.items():
        said = f"NOT given back: {lease_id}: {error}; it still costs money"
        console.print(Text(said, style="red"))
    for warning in found.warnings:
        console.print(Text(warning, style="yellow"))
    _errors(found.sight, console)
    if found.left:
        console.print(f"{found.left} more are left for the next sweep (--max)")
    if not (found.ended or found.closed or found.failed or found.sight.errors):
        console.print("nothing to give back")


def _as_lines(found: Swept) -> None:
    now_s = time.time()
    for event, findings in (("ended", found.ended), ("closed", found.closed)):
        for finding in findings:
            typer.echo(json.dumps({"event": event, **as_object(finding, now_s)}))
    for lease_id, error in found.failed.items():
        told = {"event": "not_ended", "lease_id": lease_id, "error": error}
        typer.echo(json.dumps(told))
    for warning in found.warnings:
        typer.echo(json.dumps({"event": "warning", "message": warning}))
    _errors_as_lines(found.sight)
    facts = {"ended": len(found.ended), "closed": len(found.closed), "left": found.left}
    typer.echo(json.dumps({"event": "swept", "failed": len(found.failed), **facts}))


def _errors(sight: Sight, console: Console) -> None:
    for name, error in sight.errors.items():
        console.print(Text(f"{name}: not known what is billed: {error}", style="red"))


def _errors_as_lines(sight: Sight) -> None:
    for name, error in sight.errors.items():
        typer.echo(json.dumps({"event": "provider_failed", "provider": name, "error": error}))
