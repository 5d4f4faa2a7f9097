"""``nightkiln check``: everything that is wrong with a catalog, before it costs anything."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Timer
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nightkiln import catalog as catalogs
from nightkiln.catalog import Catalog
from nightkiln.catalog.columns import column_of
from nightkiln.catalog.files import count_of_store
from nightkiln.cli.options import (
    CatalogArgument,
    JsonOption,
    LimitOption,
    SelectOption,
    SetOption,
    StoreOption,
    parsed_overrides,
)
from nightkiln.cli.printing import shown_text
from nightkiln.core.errors import BadInput, Problem
from nightkiln.core.plan import SeedRule
from nightkiln.preflight import leaving
from nightkiln.settings import Settings, load_settings
from nightkiln.wiring import with_past

BAD_INPUT = 2
QUIET_S = 2.0  # a check that takes longer says what it is doing
DIGITS = 12  # of a digest, for people


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found."""

    catalog: Catalog | None
    problems: tuple[Problem, ...]
    source: str = ""  # of the node definitions
    columns: Mapping[str, str] | None = None  # name -> type
    rows: int = 0
    jobs: int = 0  # at most, where rows name files: equal ones are one job
    digest: str = ""
    of_store: int = 0  # pictures of the store that are input files


def check(
    catalog: CatalogArgument,
    *,
    worker_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Check against the nodes of this running ComfyUI."),
    ] = None,
    object_info: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Check against this file, from `object-info save`."),
    ] = None,
    overrides: SetOption = None,
    limit: LimitOption = None,
    select: SelectOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a catalog: its workflow against node definitions, then every row. Renders nothing.

    Definitions are those of --worker-url, else of --object-info, else of a nodes.json beside
    catalog.yaml, else those of ComfyUI's own nodes, shipped with this package. All problems are
    told in one go, each with what to do. Rows are counted from 0.

    Example: nightkiln check catalogs/demo --worker-url http://127.0.0.1:8188

    Exit codes: 0 the catalog is good, 2 it is not.
    """
    report = examine(
        catalog,
        worker_url=worker_url,
        saved=object_info,
        overrides=parsed_overrides(overrides),
        limit=limit,
        select=select,
        settings=load_settings(store=store),
    )
    if as_json:
        typer.echo(json.dumps(as_object(report)))
    else:
        show(report, catalog)
    raise typer.Exit(BAD_INPUT if report.problems else 0)


def examine(
    folder: Path,
    *,
    worker_url: str | None = None,
    saved: Path | None = None,
    overrides: Mapping[str, str] | None = None,
    limit: int | None = None,
    select: str | None = None,
    settings: Settings | None = None,
) -> Report:
    """Everything that can be found out about a catalog without rendering it."""
    catalog, problems = catalogs.read_catalog(folder)
    if catalog is None:
        return Report(None, tuple(problems))
    catalog = replace(catalog, limit=limit, select=select)
    catalog = catalog if settings is None else with_past(catalog, settings)
    try:
        catalog = catalog.with_overrides(overrides if overrides is not None else {})
        definitions = catalogs.definitions_for(catalog, worker_url=worker_url, saved=saved)
    except BadInput as error:
        return Report(catalog, (*problems, *error.problems))
    with catalogs.scratch() as con, _said_late(f"checking {folder} ..."):
        problems += catalogs.check(catalog, definitions, con)
        if problems:
            return Report(catalog, tuple(problems), definitions.source)
        columns = catalogs.load_rows(con, catalog)
        ((rows,),) = con.execute("SELECT count(*) FROM catalog_rows").fetchall()
        jobs = rows * catalog.variants
        # Equal files make equal jobs, but finding out means fetching and reading all of them.
        if not any(item.is_file for item in catalog.inputs):
            jobs = catalogs.plan_jobs(con, catalog, batch="").jobs
        digest = catalogs.catalog_digest(catalog)
        of_store = count_of_store(con, catalog)
    return Report(catalog, (), definitions.source, columns, rows, jobs, digest, of_store)


@contextmanager
def _said_late(text: str) -> Iterator[None]:
    """Say what is going on if it goes on for long; on stderr, so that output stays clean."""
    timer = Timer(QUIET_S, lambda: print(text, file=sys.stderr))  # noqa: T201 - to people
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def show(report: Report, folder: Path) -> None:
    """The report for people."""
    console = Console(soft_wrap=True, highlight=False)
    if report.problems:
        show_problems(console, report.problems, folder)
        return
    catalog = report.catalog
    assert catalog is not None, "no problems, so there is a catalog"
    most = "at most " if any(item.is_file for item in catalog.inputs) else ""
    console.print(f"[green]{folder} is good[/green], checked against {report.source}")
    console.print(f"  {report.rows} rows, {most}{report.jobs} jobs")
    if report.of_store:
        console.print(f"  {leaving(report.of_store)}")
    table = Table("input", "from", "to", box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for line in bindings(report):
        cells = (line["input"], line["from"], ", ".join(line["to"]))
        table.add_row(*(Text(shown_text(cell)) for cell in cells))  # a stranger's catalog
    console.print(table)
    digests = {
        "catalog": report.digest,
        "workflow": catalog.template.digest,
        "environment": catalog.environment.digest,
    }
    told = ", ".join(f"{name} {digest[:DIGITS]}" for name, digest in digests.items())
    console.print(f"  digests: {told}")


def show_problems(console: Console, problems: Sequence[Problem], folder: Path) -> None:
    """Each problem with its place, what it is, and what to do."""
    count = len(problems)
    console.print(f"[red]{count} problem{'s' if count > 1 else ''} in {folder}[/red]")
    for number, problem in enumerate(problems, 1):
        console.print(f"{number:3d}. {shown_text(problem.where)}", markup=False)
        console.print(f"     {shown_text(problem.what)}", markup=False)
        if problem.fix:
            console.print(f"     -> {shown_text(problem.fix)}", markup=False)


def bindings(report: Report) -> list[dict[str, Any]]:
    """Where each input comes from and goes to."""
    catalog, columns = report.catalog, report.columns
    assert catalog is not None, "a good report has a catalog"
    assert columns is not None, "and its columns"
    lines = []
    for item in catalog.inputs:
        column = column_of(item, columns)
        kind = " (file)" if item.is_file else ""
        parts = [f"column {column}"] if column is not None else []
        if item.seed_rule is not SeedRule.GIVEN:
            parts.append(item.seed_rule.value)
        elif item.default is not None:
            parts.append(repr(item.default))
        lines.append({"input": item.name, "from": " or ".join(parts) + kind, "to": list(item.to)})
    return lines


def as_object(report: Report) -> dict[str, Any]:
    """The report for programs."""
    found: dict[str, Any] = {
        "is_good": not report.problems,
        "problems": [asdict(problem) for problem in report.problems],
        "definitions": report.source,
    }
    if report.catalog is not None and not report.problems:
        found |= {
            "catalog": report.catalog.name,
            "rows": report.rows,
            "jobs": report.jobs,
            "pictures_of_store": report.of_store,
            "catalog_digest": report.digest,
            "workflow_digest": report.catalog.template.digest,
            "environment_digest": report.catalog.environment.digest,
            "bindings": bindings(report),
        }
    return found
