"""``nightkiln query``: SQL over a store, for people, pipes and programs."""

from __future__ import annotations

import csv
import json
import sys
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any

import duckdb
import typer
from rich.console import Console
from rich.table import Table

from nightkiln.cli.options import JsonOption, StoreOption
from nightkiln.core.errors import BadInput, Problem
from nightkiln.settings import load_settings
from nightkiln.store.store import Store
from nightkiln.wiring import open_store

ROWS_SHOWN_MAX = 1000  # in a table; --json and --csv give all
FETCH_ROWS = 10_000
# Not EXPLAIN: with ANALYZE it carries out what it explains, a COPY too.
READING = frozenset({duckdb.StatementType.SELECT})


def query(
    sql: Annotated[
        str, typer.Argument(metavar="SQL", help="One SELECT over the views.", show_default=False)
    ],
    *,
    store: StoreOption = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated, with a header.")] = False,
) -> None:
    """Ask a store in SQL.

    Views: jobs, jobs_<catalog>, outputs, attempts, catalog_rows, leases, charges, runs, batches,
    quotes, calibration, scorecard, blocklist. Ready answers: waste, cost_per_1000, spend_by_day,
    machines, failures, slowest, duplicates, progress.
    `nightkiln query "describe jobs"` lists columns, the catalog's own among them; names say units;
    docs/reference/tables.md explains each.

    Example: nightkiln query "select status, count(*) from jobs group by 1" --store results

    Example: nightkiln query "select prompt, seed, uri from outputs" --store results --csv

    Exit codes: 0 answered, 2 the query cannot be answered, 3 there is no such store.
    """
    opened = open_store(load_settings(store=store))
    if as_json or as_csv:
        _write(opened, sql, as_json=as_json)
    else:
        show(opened, sql, Console())


def show(store: Store, sql: str, console: Console) -> None:
    """Print the answer as a table."""
    with store.connect() as con:
        names, answer = _asked(con, sql)
        rows = answer.fetchmany(ROWS_SHOWN_MAX)
        is_cut = answer.fetchone() is not None
    table = Table(*names)
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row))
    console.print(table)
    if is_cut:
        console.print(f"the first {ROWS_SHOWN_MAX} rows; --csv or --json give all")


def _asked(con: duckdb.DuckDBPyConnection, sql: str) -> tuple[list[str], Any]:
    """Column names, and a cursor over the answer.

    Raises:
        BadInput: DuckDB refuses the query; the message says what there is to ask.
    """
    try:
        statements = con.extract_statements(sql)
        if len(statements) != 1:
            raise BadInput([Problem("query", f"{len(statements)} statements", "ask one at a time")])
        if statements[0].type not in READING:
            fix = "to change or export something, open the store's nightkiln.duckdb in DuckDB"
            raise BadInput([Problem("query", "only reading is done here", fix)])
        answer = con.execute(sql)
    except duckdb.Error as error:
        fix = f"views: {', '.join(_views(con))}; 'describe jobs' lists columns"
        raise BadInput([Problem("query", str(error).strip(), fix)]) from error
    return [column[0] for column in answer.description or ()], answer


def _views(con: duckdb.DuckDBPyConnection) -> list[str]:
    found = con.execute(
        "select view_name from duckdb_views() where not internal and view_name not like '\\_%' "
        "escape '\\' order by 1"
    ).fetchall()
    return [name for (name,) in found]


def _write(store: Store, sql: str, *, as_json: bool) -> None:
    with store.connect() as con:
        names, answer = _asked(con, sql)
        writer = csv.writer(sys.stdout)
        if not as_json:
            writer.writerow(names)
        while rows := answer.fetchmany(FETCH_ROWS):
            for row in rows:
                if as_json:
                    line = dict(zip(names, row, strict=True))
                    sys.stdout.write(json.dumps(line, default=plain) + "\n")
                else:
                    writer.writerow(row)


def plain(value: object) -> object:
    """What JSON has no word for."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    return str(value)
