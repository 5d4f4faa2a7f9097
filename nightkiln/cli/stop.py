"""``nightkiln stop``: a request that the run finds in the store, wherever it runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from typing import Annotated

import typer

from nightkiln.cli.options import JsonOption, StoreOption
from nightkiln.core.errors import BadInput, NightkilnError, Problem
from nightkiln.lease_book import LeaseBook
from nightkiln.night import BAD_INPUT
from nightkiln.settings import Settings, load_settings
from nightkiln.store.claims import SeenClaim, claimed_batches, request_stop
from nightkiln.store.processes import is_dead
from nightkiln.store.store import Store
from nightkiln.wiring import has_store, open_store


def stop(
    batch: Annotated[
        str | None,
        typer.Argument(
            metavar="BATCH", help="Its name, as `nightkiln status` shows it.", show_default=False
        ),
    ] = None,
    *,
    is_all: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Every batch that is worked on: in the store, and in each store for which this "
            "computer has rented machines.",
        ),
    ] = False,
    now: Annotated[
        bool, typer.Option("--now", help="Hand running jobs back instead of finishing them.")
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the run that works on a batch to stop; what is made is committed.

    The run, wherever it runs, sees it within a second or two, finishes what is being rendered and
    ends with exit code 3; the same `nightkiln run` later does what is left. It gives its machines
    back; those of a run that is dead are given back by `nightkiln reap`.

    Example: nightkiln stop parti-2026-11-21 --store results

    Example: nightkiln stop --all --now

    Exit codes: 0 it was asked, 2 nobody works on this batch, or on any.
    """
    if is_all == (batch is not None):
        what = "a batch and --all" if is_all else "neither a batch nor --all"
        raise BadInput([Problem("nightkiln stop", f"was given {what}", "give one of them")])
    settings, asked_s = load_settings(store=store), time.time()
    asked = 0
    if batch is not None:
        asked = _ask(open_store(settings), [batch], asked_s=asked_s, now=now, as_json=as_json)
    for opened in _stores(settings) if is_all else ():
        try:
            names = claimed_batches(opened.blobs)
            asked += _ask(opened, names, asked_s=asked_s, now=now, as_json=as_json)
        except NightkilnError as error:  # it keeps nobody from stopping the others
            typer.echo(f"{opened.uri}: {error}", err=True)
    if not asked:
        on = "this" if batch is not None else "any"
        typer.echo(
            f"nobody works on {on} batch; see 'nightkiln status', 'nightkiln leases'", err=True
        )
        raise typer.Exit(BAD_INPUT)


def _ask(store: Store, names: Iterable[str], *, asked_s: float, now: bool, as_json: bool) -> int:
    """Leave the request in the store; how many runs will find it."""
    asked = 0
    for name in names:
        claim = request_stop(store.blobs, name, now=now, requested_s=asked_s)
        if claim is not None:
            asked += 1
            _told(name, claim, store, asked_s=asked_s, now=now, as_json=as_json)
    return asked


def _stores(settings: Settings) -> Iterator[Store]:
    """The store of the settings, and every one that the book of leases names; those that are there.

    One that cannot be read keeps nobody from stopping the others.
    """
    seen = set()
    for place in (settings.store, *_booked(LeaseBook(settings.state_folder))):
        try:
            there = settings.model_copy(update={"store": place})
            if not has_store(there):
                continue
            opened = open_store(there)
        except NightkilnError as error:
            typer.echo(f"{place}: {error}", err=True)
            continue
        if opened.uri not in seen:
            seen.add(opened.uri)
            yield opened


def _booked(book: LeaseBook) -> list[str]:
    """Stores of runs that rent, also of one that holds nothing at this moment."""
    try:
        entries, owners = book.entries(), book.owners()
    except NightkilnError as error:
        typer.echo(str(error), err=True)
        return []
    alive = (owner.store for owner in owners if not owner.has_ended)
    return list(dict.fromkeys((*(entry.store for entry in entries), *alive)))


def _told(
    name: str, claim: SeenClaim, store: Store, *, asked_s: float, now: bool, as_json: bool
) -> None:
    if as_json:
        told = {"event": "stop_requested", "batch": name, "now": now, "store": store.uri}
        typer.echo(json.dumps(told))
    else:
        how = "now" if now else "in order"
        typer.echo(f"{name}: asked {claim.describe(asked_s)} to stop {how}")
        if is_dead(claim.owner):
            typer.echo(
                "  but that process is dead: the same 'nightkiln run' goes on with its machines; "
                "'nightkiln leases' shows them, 'nightkiln reap --yes' gives back whom nobody keeps"
            )
