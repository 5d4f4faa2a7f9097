"""Answers of DuckDB on a terminal, in a pipe, for a program."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import IO, Any

from rich.console import Console
from rich.table import Table

ROWS_SHOWN_MAX = 1000  # in a table; --json and --csv give all
FETCH_ROWS = 10_000


def print_table(names: Sequence[str], answer: Any, console: Console, *, for_all: str) -> None:
    """The first rows as a table; ``for_all`` says how to get the others."""
    rows = answer.fetchmany(ROWS_SHOWN_MAX)
    is_cut = answer.fetchone() is not None
    table = Table(*names)
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row))
    console.print(table)
    if is_cut:
        console.print(f"the first {ROWS_SHOWN_MAX} rows; {for_all}")


def write_lines(names: Sequence[str], answer: Any, out: IO[str], *, as_json: bool) -> None:
    """All rows: an object a line, else comma-separated with a header."""
    writer = csv.writer(out)
    if not as_json:
        writer.writerow(names)
    while rows := answer.fetchmany(FETCH_ROWS):
        for row in rows:
            if as_json:
                line = dict(zip(names, row, strict=True))
                out.write(json.dumps(line, default=plain) + "\n")
            else:
                writer.writerow(row)


def plain(value: object) -> object:
    """What JSON has no word for."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    return str(value)
