"""Planned jobs as ``Job``s, in the order of the catalog, a bounded number at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import duckdb

from nightkiln.catalog.catalog import Catalog
from nightkiln.catalog.columns import FLOATS, INTEGERS, column_of, head_of, value_expression
from nightkiln.catalog.files import FILES, quoted
from nightkiln.catalog.rows import ROW, ROWS, load_rows
from nightkiln.core.model import CatalogRow, InputFile, Job, JobId, Value
from nightkiln.core.plan import canonical

PLANNED = "planned"  # all jobs, as ``plan_jobs`` leaves them
REPLACES = "nightkiln_replaces"  # beside a row's own columns: the job rendered anew as this one
JOBS_AT_ONCE = 2048  # held in memory; each with its prompt and all other columns
EXACT_DECIMAL_DIGITS = 15  # a double holds them all

_WANTED = """
CREATE OR REPLACE TABLE {wanted} AS
SELECT row_number() OVER () - 1 AS position, *
FROM (
  SELECT p.row, p.variant
  FROM planned p {joins}
  ANTI JOIN repeats r ON r.row = p.row AND r.variant = p.variant
  ORDER BY p.row, p.variant
)
"""


def stream_jobs(
    con: duckdb.DuckDBPyConnection,
    catalog: Catalog,
    pending: str,
    *,
    settled: str | None = None,
) -> Iterator[Job]:
    """Every planned job whose id is in the relation ``pending`` (job_id), once, in catalog order.

    Those in the relation ``settled`` (job_id) are left out: of millions, that is much cheaper
    than to name all others. Texts that are no ids mean nothing in either. A job stands where its
    first row stands; ``rows`` holds all that mean it, with the columns that bind nothing.
    ``plan_jobs`` comes first, on the same connection; other work on it between two jobs does no
    harm, nor does a stream of another relation. Fills the tables ``wanted_<pending>`` and
    ``repeats_<pending>``, which take little room: they name lines of ``planned``.
    """
    reader = _Reader(con, catalog, pending)
    joins = "" if pending == PLANNED else f"SEMI JOIN {_heads(pending)} a ON a.head = p.head"
    joins += "" if settled is None else f" ANTI JOIN {_heads(settled)} s ON s.head = p.head"
    con.execute(_WANTED.format(wanted=reader.wanted, joins=joins))
    con.execute(reader.repeats_query())
    ((count,),) = con.execute(f"SELECT count(*) FROM {reader.wanted}").fetchall()  # noqa: S608 - quoted
    for start in range(0, count, JOBS_AT_ONCE):
        yield from reader.jobs(start, start + JOBS_AT_ONCE)


def _heads(relation: str) -> str:
    return f"(SELECT {head_of('job_id')} AS head FROM {quoted(relation)})"  # noqa: S608 - quoted


class _Reader:
    """Turns stretches of ``wanted_...`` into jobs."""

    def __init__(self, con: duckdb.DuckDBPyConnection, catalog: Catalog, pending: str) -> None:
        kinds = load_rows(con, catalog)
        self.wanted = quoted(f"wanted_{pending}")
        self._repeats = quoted(f"repeats_{pending}")
        self._con = con
        columns = {item.name: column_of(item, kinds) for item in catalog.inputs}
        bound = {name: column for name, column in columns.items() if column is not None}
        self._inputs = list(bound)
        self._is_file = [item.is_file for item in catalog.inputs if item.name in bound]
        self._values = [
            f"{value_expression(column, kinds[column], as_text=is_file)} AS v{at}"
            for at, (column, is_file) in enumerate(zip(bound.values(), self._is_file, strict=True))
        ]
        self._others = [name for name in kinds if name not in bound.values()]
        self._other_values = [
            f"{json_expression(name, kinds[name])} AS o{at}" for at, name in enumerate(self._others)
        ]
        self._is_json = [is_nested(kinds[name]) for name in self._others]
        self._seed = catalog.seed.name if catalog.seed is not None else None
        self._defaults: dict[str, Value] = {
            item.name: item.default for item in catalog.inputs if item.default is not None
        }
        self._default_files = {
            item.name: _file(con, str(item.default))
            for item in catalog.inputs
            if item.is_file and item.default is not None
        }

    def repeats_query(self) -> str:
        """Finds ``repeats_...``: for each wanted job, the rows beyond its first."""
        others = "".join(f", o{at}" for at in range(len(self._others)))
        return f"""
            CREATE OR REPLACE TABLE {self._repeats} AS
            SELECT w.position, c.row {others}
            FROM repeats r
            JOIN {self.wanted} w ON w.row = r.first_row AND w.variant = r.first_variant
            JOIN ({self._catalog([])}) c ON c.row = r.row
            ORDER BY w.position, c.row"""  # noqa: S608 - columns are quoted

    def jobs(self, start: int, end: int) -> Iterator[Job]:
        """The jobs at positions from ``start`` to before ``end``."""
        span = f"position >= {start:d} AND position < {end:d}"
        repeats: dict[int, list[CatalogRow]] = {}
        query = f"SELECT * FROM {self._repeats} WHERE {span} ORDER BY position, row"  # noqa: S608 - quoted
        for line in self._read(query):
            repeats.setdefault(line["position"], []).append(self._row(line))
        for line in self._read(self._jobs_query(span)):
            values, files = self._bound(line)
            rows = (self._row(line), *repeats.get(line["position"], ()))
            yield Job(JobId(line["job_id"]), values, files, rows)

    def _jobs_query(self, span: str) -> str:
        query = f"SELECT min(row), max(row) FROM {self.wanted} WHERE {span}"  # noqa: S608 - numbers
        ((first, last),) = self._con.execute(query).fetchall()
        files = [at for at, is_file in enumerate(self._is_file) if is_file]
        selected = "".join(f", f{at} AS file{at}" for at in files)
        joins = " ".join(f"LEFT JOIN {FILES} f{at} ON f{at}.value = c.v{at}" for at in files)
        rows = self._catalog(self._values)
        return f"""
            SELECT w.position, p.job_id, p.seed, p.replaces, c.* {selected}
            FROM (SELECT * FROM {self.wanted} WHERE {span}) w
            JOIN (FROM {PLANNED} WHERE row BETWEEN {first:d} AND {last:d}) p
              ON p.row = w.row AND p.variant = w.variant
            JOIN ({rows} WHERE {ROW} BETWEEN {first:d} AND {last:d}) c ON c.row = w.row {joins}
            ORDER BY w.position"""  # noqa: S608 - columns are quoted, the rest are numbers

    def _catalog(self, values: list[str]) -> str:
        """The catalog's side of a query, under names that no column can clash with."""
        selected = ", ".join([f"{ROW} AS row", *values, *self._other_values])
        return f"SELECT {selected} FROM {ROWS}"  # noqa: S608 - columns are quoted

    def _read(self, query: str) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = self._con.sql(query).to_arrow_table().to_pylist()
        return lines

    def _row(self, line: dict[str, Any]) -> CatalogRow:
        columns = {}
        for at, (name, is_json) in enumerate(zip(self._others, self._is_json, strict=True)):
            value = line[f"o{at}"]
            if is_json and value is not None:
                value = json.loads(value, parse_constant=_nothing)
            columns[name] = value
        if line.get("replaces") is not None:
            columns[REPLACES] = line["replaces"]
        return CatalogRow(line["row"], columns)

    def _bound(self, line: dict[str, Any]) -> tuple[dict[str, Value], dict[str, InputFile]]:
        values = dict(self._defaults)
        files = dict(self._default_files)
        for at, name in enumerate(self._inputs):
            value = line[f"v{at}"]
            if value is None:
                continue
            values[name] = value
            if self._is_file[at]:
                files[name] = _input_file(line[f"file{at}"])
        values |= {name: file.sha256 for name, file in files.items()}
        if self._seed is not None and line["seed"] is not None:
            values[self._seed] = int(line["seed"])  # a HUGEINT arrives as Decimal
        return {name: canonical(values[name]) for name in sorted(values)}, files


def _input_file(facts: dict[str, Any]) -> InputFile:
    return InputFile(facts["path"], facts["sha256"], facts["size"], facts["suffix"])


def _file(con: duckdb.DuckDBPyConnection, value: str) -> InputFile:
    query = f"SELECT path, sha256, size, suffix FROM {FILES} WHERE value = ?"  # noqa: S608 - a constant
    ((path, sha256, size, suffix),) = con.execute(query, [value]).fetchall()
    return InputFile(path, sha256, size, suffix)


def _nothing(_: str) -> None:
    """NaN and infinity, which JSON lacks."""


_NESTED = re.compile(r"\]$|^(STRUCT|MAP|UNION|JSON|VARIANT|HUGEINT|UHUGEINT)\b")


def is_nested(kind: str) -> bool:
    """Whether a column of this type travels as JSON text."""
    return _NESTED.search(kind) is not None


def json_expression(name: str, kind: str) -> str:
    """A column's value as JSON can hold it: dates as ISO text, no NaN."""
    column = quoted(name)
    if is_nested(kind):
        return f"CAST(to_json({column}) AS VARCHAR)"
    if kind in INTEGERS or kind in {"BOOLEAN", "VARCHAR"}:
        return column
    if kind in FLOATS:
        return f"CASE WHEN isfinite({column}) THEN CAST({column} AS DOUBLE) END"
    if kind.startswith("DECIMAL("):
        digits = int(kind.removeprefix("DECIMAL(").partition(",")[0])
        return f"CAST({column} AS {'DOUBLE' if digits <= EXACT_DECIMAL_DIGITS else 'VARCHAR'})"
    if kind.startswith("TIMESTAMP"):
        text = f"replace(CAST({column} AS VARCHAR), ' ', 'T')"  # in UTC, as the connection is
        return f"replace({text}, '+00', 'Z')" if kind == "TIMESTAMP WITH TIME ZONE" else text
    return f"CAST({column} AS VARCHAR)"
