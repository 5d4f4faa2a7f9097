"""Answers of DuckDB on a terminal, in a pipe, for a program."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import IO, Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

ROWS_SHOWN_MAX = 1000  # in a table; --json and --csv give all
RECORDS_SHOWN_MAX = 50  # one below the other, where a table would not fit
FETCH_ROWS = 10_000
WIDTH_MAX = 1_000_000  # letters, to see how wide a table would have to be


def print_table(names: Sequence[str], answer: Any, console: Console, *, for_all: str) -> None:
    """The first rows as a table; ``for_all`` says how to get the others.

    A table that is too wide for the screen would be cut in every column, so then each row is a
    list of its own, a line for each column.
    """
    rows = answer.fetchmany(ROWS_SHOWN_MAX)
    is_cut = answer.fetchone() is not None
    table = _table(names, rows)
    shown = len(rows)
    unbounded = console.options.update(max_width=WIDTH_MAX)
    if Measurement.get(console, unbounded, table).minimum <= console.width:
        console.print(table)
    elif rows:
        shown = min(shown, RECORDS_SHOWN_MAX)
        for number, row in enumerate(rows[:shown], 1):
            console.print(Text(f"row {number}", style="bold"))
            console.print(_record(names, row))
    else:
        console.print(Text(f"no rows; columns: {', '.join(map(shown_text, names))}"))
    if is_cut or shown < len(rows):
        console.print(f"the first {shown} rows; {for_all}")


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    table = Table()
    for name in names:
        table.add_column(Text(shown_text(name)), overflow="fold")
    for row in rows:
        table.add_row(*map(_cell, row))
    return table


def _record(names: Sequence[str], row: Sequence[Any]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column(no_wrap=True, style="cyan")
    table.add_column(overflow="fold")
    for name, value in zip(names, row, strict=True):
        table.add_row(Text(shown_text(name)), _cell(value))
    return table


def _cell(value: object) -> Text:
    """A value as it stands: prompts and errors are strangers', brackets in them mean nothing."""
    return Text("" if value is None else shown_text(str(value)))


def shown_text(text: str) -> str:
    """What a terminal shows of a text, with what would command it spelled out."""
    return "".join(
        letter
        if letter.isprintable() or letter == "\n"
        else letter.encode("unicode_escape").decode()
        for letter in text
    )


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
