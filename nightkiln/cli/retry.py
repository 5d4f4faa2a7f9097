"""``nightkiln retry``: settled jobs, rendered again."""

from __future__ import annotations

import asyncio
import csv
import json
import re
import time
from collections.abc import Iterator
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
from nightkiln.retrying import retry_of
from nightkiln.settings import load_settings
from nightkiln.store.choosing import Wanted
from nightkiln.wiring import Request, chosen_catalog

LIST_BYTES_MAX = 64 * 2**20  # of a file that names jobs: a million of them
_JOB_ID = re.compile(r"[0-9a-f]{64}")


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
    found = retry_of(
        request, settings, wanted, is_reseed=reseed, is_forced=force, now_s=time.time()
    )
    for line in found.lines():
        typer.echo(line, err=True)
    if found.request is None:
        raise typer.Exit(ALL_DONE)
    outcome = asyncio.run(watch(found.request, settings, as_json=as_json, may_spend=yes))
    say_outcome(outcome, as_json=as_json)
    raise typer.Exit(outcome.exit_code)


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
