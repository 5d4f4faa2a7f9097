"""``nightkiln leases``: what is rented now, by which batch, since when, at what price."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nightkiln.cli.options import FleetOption, JsonOption
from nightkiln.core.lease_ids import batch_of
from nightkiln.core.model import Usd
from nightkiln.core.reaping import Fate
from nightkiln.lease_book import Standing
from nightkiln.night import ALL_DONE, SOME_FAILED, STOPPED_EARLY
from nightkiln.settings import load_settings
from nightkiln.sighting import Finding, Sight
from nightkiln.sweeping import looked

STYLES = {Fate.END: "red", Fate.CLOSE: "yellow", Fate.FOREIGN: "dim", Fate.KEEP: ""}


def leases(
    *,
    fleet: FleetOption = None,
    offline: Annotated[
        bool,
        typer.Option("--offline", help="Only what this computer has written down; ask nobody."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what is rented now: what the services bill, and what this computer's book says of it.

    The two are held against each other. In red: what is billed and nobody wants, and what either
    side does not know of the other. A machine that was asked for and never confirmed is told, too.
    Changes nothing; `nightkiln reap` does.

    Example: nightkiln leases

    Exit codes: 0 services and book agree (also when nothing is rented), 1 they do not, 2 bad
    settings, 3 a service did not answer.
    """
    settings = load_settings(fleet=fleet)
    sight = asyncio.run(looked(settings, is_offline=offline))
    now_s = time.time()
    if as_json:
        for finding in sight.findings:
            typer.echo(json.dumps(as_object(finding, now_s)))
        for name, error in sight.errors.items():
            typer.echo(json.dumps({"event": "provider_failed", "provider": name, "error": error}))
        for path in sight.damaged:
            typer.echo(json.dumps({"event": "damaged", "path": path}))
    else:
        _show(sight, now_s)
    raise typer.Exit(exit_code(sight))


def exit_code(sight: Sight) -> int:
    """What a script has to know."""
    if sight.errors:
        return STOPPED_EARLY
    differs = any(each.difference is not None for each in sight.findings)
    return SOME_FAILED if differs or sight.damaged or sight.of(Fate.END) else ALL_DONE


def as_object(finding: Finding, now_s: float) -> dict[str, Any]:
    """One machine for programs; units in the names."""
    billed, entry, since_s = finding.billed, finding.entry, finding.since_s
    return {
        "lease_id": finding.lease_id,
        "provider": finding.provider,
        "batch": entry.batch if entry is not None else batch_of(finding.lease_id) or None,
        "store": entry.store if entry is not None else None,
        "fleet": billed.fleet if billed is not None else None,
        "contract": billed.contract if billed is not None else None,
        "gpu": billed.gpu if billed is not None else entry.offer.gpu if entry else None,
        "status": billed.status if billed is not None else None,
        "is_billed": billed is not None,
        "book": entry.standing.value if entry is not None else None,
        "usd_per_hour": float(finding.usd_per_hour),
        "since_s": since_s,
        "age_s": round(now_s - since_s, 1) if since_s is not None else None,
        "expires_s": entry.expires_s if entry is not None else None,
        "fate": finding.verdict.fate.value,
        "cause": finding.verdict.cause.value,
        "why": finding.verdict.said,
        "difference": finding.difference,
    }


def _show(sight: Sight, now_s: float) -> None:
    console = Console(highlight=False)
    if sight.findings:
        console.print(table(sight.findings, now_s))
    usd = sum((each.usd_per_hour for each in sight.findings), Usd(0))
    count = sum(1 for each in sight.findings if each.billed is not None)
    machines = "nothing is" if not count else "1 machine is" if count == 1 else f"{count} are"
    console.print(f"{machines} billed, {usd:.3f} USD an hour together")
    told(sight, console)


def told(sight: Sight, console: Console) -> None:
    """What went wrong, and what to do."""
    for name, error in sight.errors.items():
        console.print(Text(f"{name}: not known what is billed: {error}", style="red"))
    for path in sight.damaged:
        console.print(Text(f"{path} cannot be read; see what it was, and delete it", style="red"))
    if sight.of(Fate.END, Fate.CLOSE):
        console.print("nightkiln reap --yes gives back what nobody wants")


def table(findings: Iterable[Finding], now_s: float) -> Table:
    """A line for each machine; in red what differs."""
    shown = Table("lease", "GPU", "since", "USD/h", "book", "verdict", "why", box=None)
    for finding in sorted(findings, key=lambda each: (each.provider, each.lease_id)):
        billed, entry = finding.billed, finding.entry
        offer_gpu = entry.offer.gpu if entry is not None else "?"
        is_red = finding.difference is not None or finding.verdict.fate is Fate.END
        said = ": ".join(filter(None, (finding.difference, finding.verdict.said)))
        cells = (
            f"{finding.provider} {finding.lease_id}",
            billed.gpu if billed is not None else offer_gpu,
            _age(finding.since_s, now_s),
            f"{finding.usd_per_hour:.3f}" if billed is not None else "not billed",
            _standing(finding),
            finding.verdict.fate.value,
            said,
        )
        style = "red" if is_red else STYLES[finding.verdict.fate]
        # Names come from labels that a stranger may have written: never read as markup.
        shown.add_row(*(Text(cell, style=style) for cell in cells))
    return shown


def _standing(finding: Finding) -> str:
    if finding.entry is None:
        return "unknown"
    named: Mapping[Standing, str] = {Standing.INTENDED: "asked for"}
    return named.get(finding.entry.standing, finding.entry.standing.value)


def _age(since_s: float | None, now_s: float) -> str:
    if since_s is None:
        return "?"
    minutes = max(0, round((now_s - since_s) / 60))
    clock = datetime.fromtimestamp(since_s, UTC)
    return f"{clock:%H:%M} UTC ({minutes // 60}h{minutes % 60:02d}m)"
