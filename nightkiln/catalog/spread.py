"""A few rows that stand for a whole catalog: evenly spread, and some of every kind.

Rows are of one kind if they agree in every bound column that has few values: checkpoint, size,
steps. Those decide how long a job takes; prompts, of which there are many, do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import duckdb

from nightkiln.catalog.catalog import Catalog
from nightkiln.catalog.columns import column_of
from nightkiln.catalog.files import quoted
from nightkiln.catalog.rows import ROW, ROWS, load_rows
from nightkiln.core.errors import BadInput, Problem

VALUES_MAX = 16  # of a column that makes kinds
REPEATS_MIN = 2  # rows that share a value, on average: else it is one more thing like a prompt


def spread(con: duckdb.DuckDBPyConnection, catalog: Catalog, count: int) -> tuple[int, ...]:
    """The numbers of ``count`` rows, ascending; always the same ones of the same catalog.

    Of one kind they lie at even distances, the first and the last row among them. Of several
    kinds, each has one row at least, if ``count`` allows, and the rest by its size.

    Raises:
        BadInput: the rows cannot be read, there are none, or there are fewer than ``count``.
    """
    kinds = load_rows(con, catalog)
    ((rows,),) = con.execute(f"SELECT count(*) FROM {ROWS}").fetchall()  # noqa: S608 - a constant
    if count > rows:
        what = f"only {rows} row{'s are' if rows > 1 else ' is'} there to choose from"
        raise BadInput([Problem(f"--rows {count}", what, f"at most --rows {rows}")])
    columns = _telling_columns(con, catalog, kinds, rows)
    if not columns:
        return tuple(strides(rows, count))
    return _spread_over_kinds(con, columns, count)


def _telling_columns(
    con: duckdb.DuckDBPyConnection, catalog: Catalog, kinds: Mapping[str, str], rows: int
) -> list[str]:
    """Bound columns with few values, each in many rows; quoted."""
    bound = [column_of(item, kinds) for item in catalog.inputs if item != catalog.seed]
    columns = [quoted(name) for name in bound if name is not None]
    if not columns:
        return []
    counts = ", ".join(f"approx_count_distinct({column})" for column in columns)
    (found,) = con.execute(f"SELECT {counts} FROM {ROWS}").fetchall()  # noqa: S608 - quoted
    most = min(VALUES_MAX, rows // REPEATS_MIN)
    return [column for column, values in zip(columns, found, strict=True) if 1 < values <= most]


def _spread_over_kinds(
    con: duckdb.DuckDBPyConnection, columns: Sequence[str], count: int
) -> tuple[int, ...]:
    """A kind is named by its first row, so kinds are in the order of the catalog."""
    by_kind = ", ".join(columns)
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE row_kinds AS SELECT {ROW} AS row, "  # noqa: S608 - quoted
        f"min({ROW}) OVER (PARTITION BY {by_kind}) AS kind FROM {ROWS}"
    )
    found = con.execute("SELECT count(*) FROM row_kinds GROUP BY kind ORDER BY kind").fetchall()
    picked = picks([size for (size,) in found], count)
    rows = con.execute(
        "SELECT row FROM (SELECT row, row_number() OVER (ORDER BY kind, row) - 1 AS place "
        "FROM row_kinds) WHERE place IN (SELECT unnest(?::BIGINT[])) ORDER BY row",
        [picked],
    ).fetchall()
    return tuple(row for (row,) in rows)


def picks(sizes: Sequence[int], count: int) -> list[int]:
    """Which of things that lie side by side, kind after kind, to take; ascending."""
    if len(sizes) > count:
        return strides(sum(sizes), count)
    taken, start = [], 0
    for size, places in zip(sizes, shares(sizes, count), strict=True):
        taken += [start + at for at in strides(size, places)]
        start += size
    return taken


def shares(sizes: Sequence[int], count: int) -> list[int]:
    """How many of each kind: one at least, the rest by size (Sainte-Lague), never more than all."""
    assert len(sizes) <= count <= sum(sizes)
    places = [1] * len(sizes)
    for _ in range(count - len(sizes)):
        open_ones = [at for at, size in enumerate(sizes) if places[at] < size]
        neediest = max(open_ones, key=lambda at: (sizes[at] / (2 * places[at] + 1), -at))
        places[neediest] += 1
    return places


def strides(size: int, count: int) -> list[int]:
    """``count`` of the numbers below ``size`` at even distances; the middle one if it is one."""
    assert 0 < count <= size
    if count == 1:
        return [(size - 1) // 2]
    return [at * (size - 1) // (count - 1) for at in range(count)]
