"""``nightkiln why``: every decision of a run in plain words, from its story."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import tzinfo
from typing import Annotated

import typer

from nightkiln.chronicle import Chronicle, JobTale, LeaseTale
from nightkiln.cli.batches import NAMED_MAX, named_batch
from nightkiln.cli.options import JsonOption, StoreOption
from nightkiln.core.errors import BadInput, Problem
from nightkiln.deadline import shown_zone
from nightkiln.settings import load_settings
from nightkiln.store.store import Store
from nightkiln.story import read_story
from nightkiln.why import Teller, facts, line, matching_jobs, matching_leases
from nightkiln.wiring import open_store


def why(
    batch: Annotated[
        str,
        typer.Argument(metavar="BATCH", help="Its name, or an unambiguous beginning of it."),
    ],
    about: Annotated[
        str | None,
        typer.Argument(
            metavar="JOB|LEASE",
            help="The id of a job or a lease, or its beginning; of a lease also its end: 003.",
            show_default=False,
        ),
    ] = None,
    *,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say why each machine was rented, released, lost or blamed, and what became of a job.

    Read from the stories that a batch's runs leave in the store, also while a run goes on; a few
    seconds old then. With a job: each try, where it was, how it ended, and why there was another
    one or none. With a lease: what it was rented for, what it did, why it went.

    Example: nightkiln why parti-2026-11-21 --store results

    Example: nightkiln why parti-2026-11-21 lease-003 --json

    Exit codes: 0 told, 2 the store knows no such batch, job or lease, 3 there is no such store.
    """
    settings = load_settings(store=store)
    opened = open_store(settings)
    about = about.strip() if about is not None else None  # a line of CSV ends in two characters
    runs = _runs(opened, named_batch(opened, batch), about if about is not None else "")
    subjects = [(run, _subjects(run, about)) for run in runs]
    if about is not None:
        _check_found(about, batch, [one for _, found in subjects for one in found])
    zone = shown_zone(settings.timezone)
    for run, found in subjects:
        if about is not None and not found:
            continue
        for said in _as_json(run, found) if as_json else _as_text(run, found, zone, about):
            typer.echo(said)


def _runs(store: Store, batch: str, asked: str) -> list[Chronicle]:
    runs = []
    for path in store.story_paths(batch):
        opening, lines = read_story(path)
        run = Chronicle(opening, asked=asked)
        run.gather(lines)
        runs.append(run)
    if not runs:
        what = "no run of it left a story"
        fix = "every run that renders leaves one; `nightkiln query` knows the results of all"
        raise BadInput([Problem(batch, what, fix)])
    return runs


def _subjects(run: Chronicle, about: str | None) -> list[LeaseTale | JobTale]:
    if about is None:
        return [*run.leases.values(), *run.jobs.values()]
    leases = [run.leases[each] for each in matching_leases(run, about)]
    jobs = [run.jobs[each] for each in matching_jobs(run, about) if each in run.jobs]
    return [*leases, *jobs]


def _check_found(about: str, batch: str, found: Sequence[LeaseTale | JobTale]) -> None:
    ids = sorted({one.id for one in found})
    if not ids:
        what = f"no job or lease of {line(batch)} is called or begins like this"
        fix = "`nightkiln why` with the batch alone names leases; the view `jobs` names jobs"
        raise BadInput([Problem(line(about), what, fix)])
    if len(ids) > 1:
        named = ", ".join(ids[:NAMED_MAX])
        raise BadInput([Problem(line(about), "several begin like this", f"one of: {named} ...")])


def _as_json(run: Chronicle, found: Sequence[LeaseTale | JobTale]) -> list[str]:
    return [json.dumps(one) for one in facts(run, found)]


def _as_text(
    run: Chronicle, found: Sequence[LeaseTale | JobTale], zone: tzinfo, about: str | None
) -> list[str]:
    teller = Teller(run, zone)
    if about is None:
        return list(teller.overview())
    said = [teller.headline()]
    for one in found:
        said += teller.lease(one) if isinstance(one, LeaseTale) else teller.job(one)
    return said
