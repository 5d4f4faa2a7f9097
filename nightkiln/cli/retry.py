"""``nightkiln retry``: settled jobs, rendered again."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from nightkiln.cli.options import (
    AtCapOption,
    BudgetOption,
    ByOption,
    CatalogArgument,
    FallbackOption,
    JsonOption,
    LateOption,
    LimitOption,
    MarketOption,
    NameOption,
    ObjectInfoOption,
    ProviderOption,
    SelectOption,
    SetOption,
    StoreOption,
    UploadOption,
    WorkerUrlOption,
    YesOption,
    parsed_overrides,
)
from nightkiln.cli.run import say_outcome, watch
from nightkiln.core.errors import BadInput, Problem
from nightkiln.outcome import ALL_DONE
from nightkiln.planner import Again, Reseeded
from nightkiln.settings import load_settings
from nightkiln.store.choosing import Chosen, Wanted, choose, earlier
from nightkiln.store.names import BATCH_NAME_CHARS_MAX
from nightkiln.store.store import Store
from nightkiln.wiring import Request, batch_name, chosen_catalog, open_store

LIST_BYTES_MAX = 64 * 2**20  # of a file that names jobs: a million of them
NAME_DIGITS = 8
_JOB_ID = re.compile(r"[0-9a-f]{64}")
_RESEED = re.compile(r"-reseed-[0-9a-f]{8}$")


def retry(
    catalog: CatalogArgument,
    *,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="SQL",
            help="Which jobs: a condition over the columns of the view jobs, the catalog's own "
            "among them. Default: every one that failed.",
            show_default=False,
        ),
    ] = None,
    jobs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Which jobs: job ids, one a line; or CSV, JSON or JSON lines with a job_id.",
            show_default=False,
        ),
    ] = None,
    reseed: Annotated[
        bool,
        typer.Option(
            "--reseed",
            help="Render them with new seeds, done or not, as a batch of their own; each new job "
            "says which one it replaces.",
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Render also those again that are done.")
    ] = False,
    name: NameOption = None,
    store: StoreOption = None,
    worker_url: WorkerUrlOption = None,
    provider: ProviderOption = None,
    by: ByOption = None,
    budget: BudgetOption = None,
    fallback: FallbackOption = None,
    late: LateOption = None,
    at_cap: AtCapOption = None,
    limit: LimitOption = None,
    overrides: SetOption = None,
    select: SelectOption = None,
    object_info: ObjectInfoOption = None,
    market: MarketOption = None,
    upload: UploadOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Render jobs of a batch again: those that failed, that you name, or with other seeds.

    It is another run of the same batch: give the catalog and the --name, --limit, --select and
    --set of the run that it belongs to. What failed counts as not settled; what else the batch has
    not done yet is left for `nightkiln run`. A result that is there stays until a newer one is: if
    it fails again, or the run is stopped, nothing is lost, and the same command goes on. Quote,
    budget and consent are those of `nightkiln run`.

    Example: nightkiln retry catalogs/demo --where "fault = 'MACHINE'" --worker-url
    http://127.0.0.1:8188 --store results

    Pictures that you do not like, with new seeds, as a batch `BATCH-reseed-...` whose jobs say in
    `replaces` what they are instead of; the same again with those gives further seeds:

    Example: nightkiln retry catalogs/demo --jobs marks.csv --reseed --worker-url
    http://127.0.0.1:8188 --store results

    Exit codes: 0 every chosen job has its image, or there is none to render, 1 some failed, 2 bad
    input or a quote that is above the budget or not agreed to (nothing started), 3 stopped early.
    """
    settings = load_settings(
        store=store,
        worker_urls=worker_url,
        providers=provider,
        by=by,
        budget=budget,
        fallback=fallback,
        late=late,
        at_cap=at_cap,
        market=market,
        upload=upload,
    )
    wanted = Wanted(where, _listed(jobs) if jobs is not None else None)
    chosen_rows = chosen_catalog(
        catalog,
        overrides=parsed_overrides(overrides),
        limit=limit,
        select=select,
        settings=settings,
    )
    request = Request(chosen_rows, object_info=object_info, name=name)
    batch = batch_name(request, settings, now_s=time.time())
    opened = open_store(settings)
    chosen = choose(opened, batch, wanted)
    _say_choice(batch, chosen, is_all=reseed or force)
    forced = wanted.digest if force else None
    again = _again(opened, batch, chosen, is_reseed=reseed, forced=forced)
    if again is None:
        raise typer.Exit(ALL_DONE)
    outcome = asyncio.run(
        watch(replace(request, **again), settings, as_json=as_json, may_spend=yes)
    )
    say_outcome(outcome, as_json=as_json)
    raise typer.Exit(outcome.exit_code)


def _again(
    store: Store, batch: str, chosen: Chosen, *, is_reseed: bool, forced: str | None
) -> dict[str, Any] | None:
    """What makes an ordinary request one for these jobs; None: there are none."""
    is_forced = forced is not None
    job_ids = chosen.failed | chosen.others if is_reseed or is_forced else chosen.failed
    if not job_ids:
        return None
    if is_reseed:
        name = reseed_name(batch, job_ids)
        return {"name": name, "again": Reseeded(job_ids, earlier(store, job_ids))}
    # What another batch has of them is as good for what failed; who forces wants new ones.
    return {"name": batch, "again": Again(job_ids, forced), "is_fresh": is_forced}


def reseed_name(batch: str, job_ids: frozenset[str]) -> str:
    """What the batch of new seeds for these jobs is called, so that the same command resumes."""
    digest = hashlib.sha256("\n".join(sorted(job_ids)).encode()).hexdigest()[:NAME_DIGITS]
    ending = f"-reseed-{digest}"
    return _RESEED.sub("", batch)[: BATCH_NAME_CHARS_MAX - len(ending)] + ending


def _say_choice(batch: str, chosen: Chosen, *, is_all: bool) -> None:
    count = len(chosen.failed) + (len(chosen.others) if is_all else 0)
    lines = [f"batch {batch}: {count} jobs to be rendered again"]
    if not is_all and chosen.others:
        what = "1 more is" if len(chosen.others) == 1 else f"{len(chosen.others)} more are"
        lines.append(f"{what} done: --force renders them again, --reseed with new seeds")
    if chosen.unknown:
        lines.append(f"{chosen.unknown} of the list are no settled jobs of this batch")
    for line in lines:
        typer.echo(line, err=True)


def _listed(path: Path) -> frozenset[str]:
    """The job ids in a file.

    Raises:
        BadInput: it cannot be read, or names none.
    """
    try:
        if path.stat().st_size > LIST_BYTES_MAX:
            what = f"is larger than {LIST_BYTES_MAX // 2**20} MiB"
            raise BadInput([Problem(str(path), what, "choose with --where")])
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput([Problem(str(path), f"cannot be read: {error}")]) from error
    try:
        found = frozenset(one for one in job_ids_in(text) if _JOB_ID.fullmatch(one))
    except csv.Error as error:
        raise BadInput([Problem(str(path), f"is no CSV: {error}")]) from error
    if not found:
        fix = "job ids, one a line; or CSV, JSON or JSON lines with a job_id"
        raise BadInput([Problem(str(path), "names no job", fix)])
    return found


def job_ids_in(text: str) -> Iterator[str]:
    """Every job id that a text names: JSON, JSON lines, CSV with a header, or one id a line."""
    lines = text.splitlines()
    if text.lstrip()[:1] in {"{", "["}:
        try:
            yield from _in_json(json.loads(text))
        except (ValueError, RecursionError):
            for line in lines:
                yield from _in_json(_parsed(line))
        return
    header = next(csv.reader(lines[:1]), [])
    if "job_id" in header:
        for row in csv.DictReader(lines):
            yield str(row["job_id"])
        return
    yield from (line.strip() for line in lines)


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _in_json(value: Any) -> Iterator[str]:
    """Texts under ``job_id``, however deep, and texts in a list of nothing else."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case {"job_id": str(job_id), **others}:
                yield job_id
                waiting.extend(others.values())
            case dict() as found:
                waiting.extend(found.values())
            case list() as found:
                yield from (one for one in found if isinstance(one, str))
                waiting.extend(one for one in found if not isinstance(one, str))
