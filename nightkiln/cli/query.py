"""``nightkiln query``: SQL over a store, for people, pipes and programs."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import duckdb
import typer
from rich.console import Console

from nightkiln.cli.options import JsonOption, StoreOption
from nightkiln.cli.printing import print_table, write_lines
from nightkiln.core.errors import BadInput, Problem
from nightkiln.settings import load_settings
from nightkiln.store.store import Store
from nightkiln.wiring import open_store

# Not EXPLAIN: with ANALYZE it carries out what it explains, a COPY too.
READING = frozenset({duckdb.StatementType.SELECT})


def query(
    sql: Annotated[
        str | None,
        typer.Argument(metavar="SQL", help="One SELECT over the views.", show_default=False),
    ] = None,
    *,
    store: StoreOption = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated, with a header.")] = False,
) -> None:
    """Ask a store one question in SQL; `nightkiln sql` is a shell for many.

    Views: jobs, jobs_<catalog>, outputs, attempts, catalog_rows, leases, charges, runs, batches,
    quotes, calibration, scorecard, blocklist. Ready answers: waste, cost_per_1000, spend_by_day,
    machines, failures, slowest, duplicates, progress.
    `nightkiln query "describe jobs"` lists columns, the catalog's own among them; names say units;
    docs/reference/tables.md explains each.

    Example: nightkiln query "select status, count(*) from jobs group by 1" --store results

    Example: nightkiln query "select prompt, seed, uri from outputs" --store results --csv

    Exit codes: 0 answered, 2 the query cannot be answered, 3 there is no such store.
    """
    if sql is None:
        fix = 'nightkiln query "from progress"; `nightkiln sql` opens a shell for more than one'
        raise BadInput([Problem("query", "there is nothing to ask", fix)])
    opened = open_store(load_settings(store=store))
    if not as_json and not as_csv:
        show(opened, sql, Console())
        return
    with opened.connect() as con:
        names, answer = _asked(con, sql)
        write_lines(names, answer, sys.stdout, as_json=as_json)


def show(store: Store, sql: str, console: Console) -> None:
    """Print the answer as a table."""
    with store.connect() as con:
        names, answer = _asked(con, sql)
        print_table(names, answer, console, for_all="--csv or --json give all")


def _asked(con: duckdb.DuckDBPyConnection, sql: str) -> tuple[list[str], Any]:
    """Column names, and a cursor over the answer.

    Raises:
        BadInput: DuckDB refuses the query; the message says what there is to ask.
    """
    try:
        statements = con.extract_statements(sql)
        if len(statements) != 1:
            fix = "ask one at a time; `nightkiln sql` takes as many as you like"
            raise BadInput([Problem("query", f"{len(statements)} statements", fix)])
        if statements[0].type not in READING:
            fix = "`nightkiln sql` opens a shell that can make tables and write files"
            raise BadInput([Problem("query", "only reading is done here", fix)])
        answer = con.execute(sql)
    except duckdb.Error as error:
        fix = f"views: {', '.join(views_in(con))}; 'describe jobs' lists columns"
        raise BadInput([Problem("query", str(error).strip(), fix)]) from error
    return [column[0] for column in answer.description or ()], answer


def views_in(con: duckdb.DuckDBPyConnection) -> list[str]:
    """The views that there are to ask, sorted."""
    found = con.execute(
        "select view_name from duckdb_views() where not internal and view_name not like '\\_%' "
        "escape '\\' order by 1"
    ).fetchall()
    return [name for (name,) in found]
