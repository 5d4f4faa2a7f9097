"""Preflight of a catalog: the workflow once, then its rows by column, in one scan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import get_close_matches

import duckdb

from nightkiln.catalog.catalog import CATALOG_FILE, Catalog, CatalogInput
from nightkiln.catalog.columns import column_of
from nightkiln.catalog.conditions import Condition, conditions, nothing_but
from nightkiln.catalog.files import THREADS, file_problem, named_files, quoted
from nightkiln.catalog.models import disk_problems
from nightkiln.catalog.rows import ROW, ROWS, load_rows, prompts_label
from nightkiln.core.errors import BadInput, Problem
from nightkiln.core.plan import SEED_HEX_DIGITS, SeedRule
from nightkiln.core.preflight import binding_problems, graph_problems
from nightkiln.core.specs import Definitions, Spec, choice_fix, spec_of, value_problem

ROWS_NAMED = 3  # rows that a message names; the others are counted
FILES_TOLD_MAX = 20  # missing files told one by one
VALUE_SHOWN_MAX = 60  # letters


def check(
    catalog: Catalog, definitions: Definitions, con: duckdb.DuckDBPyConnection
) -> list[Problem]:
    """Everything in a catalog that would make a job fail, in one go; raises nothing.

    Leaves the rows in ``con`` as ``catalog_rows``, so that what is planned next is what was
    checked.
    """
    targets = catalog.template.targets
    bound = {target for some in targets.values() for target in some}
    problems: list[Problem] = list(disk_problems(catalog))
    if catalog.graph:  # else reading it has told why
        where = catalog.workflow
        problems += graph_problems(catalog.graph, definitions, where=where, bound=bound)
    for item in catalog.inputs:
        problems += binding_problems(
            catalog.graph,
            targets.get(item.name, ()),
            definitions,
            where=_input_place(item),
            is_file=item.is_file,
        )
    try:
        columns = load_rows(con, catalog)
    except BadInput as error:
        return [*problems, *_without_rows(catalog, definitions), *error.problems]
    problems += _without_rows(catalog, definitions)
    problems += _columns(catalog, columns)
    problems += _values(con, catalog, definitions, columns)
    problems += _duplicate_ids(con, catalog, columns)
    problems += _files(con, catalog)
    return problems


def _input_place(item: CatalogInput) -> str:
    return f"{CATALOG_FILE}: inputs.{item.name}"


def _specs(catalog: Catalog, definitions: Definitions, item: CatalogInput) -> list[Spec]:
    """What every target of an input takes, as far as it is known."""
    found = (
        spec_of(definitions, str(catalog.graph[node]["class_type"]), key)
        for node, key in catalog.template.targets.get(item.name, ())
    )
    return [spec for spec in found if spec is not None]


def _without_rows(catalog: Catalog, definitions: Definitions) -> Iterator[Problem]:
    """Defaults and constants that their inputs do not take."""
    for item in catalog.inputs:
        for spec in _specs(catalog, definitions, item):
            if item.seed_rule is not SeedRule.GIVEN:
                yield from _derived_problems(item, spec)
            elif item.default is not None and not item.is_file:
                what = value_problem(spec, item.default, is_exact=True)
                if what is not None:
                    fix = choice_fix(spec, definitions) if spec.kind == "COMBO" else spec.takes
                    yield Problem(f"{_input_place(item)} default", what, fix)


def _derived_problems(item: CatalogInput, spec: Spec) -> Iterator[Problem]:
    largest = 16**SEED_HEX_DIGITS - 1
    if value_problem(spec, largest, is_exact=True) is not None or spec.kind != "INT":
        what = f"a derived seed is a whole number up to {largest}"
        fix = f"{spec.takes}; give the seeds in a column"
        yield Problem(f"{_input_place(item)} default", what, fix)


def _columns(catalog: Catalog, columns: Mapping[str, str]) -> Iterator[Problem]:
    """Columns that are not there, and such as cannot be kept."""
    where = prompts_label(catalog)
    for item in catalog.inputs:
        has_default = item.default is not None or item.seed_rule is not SeedRule.GIVEN
        if column_of(item, columns) is None and not has_default:
            near = get_close_matches(item.name, columns, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            fix = f"{hint}columns: {', '.join(columns)}; or give inputs.{item.name} a default"
            yield Problem(
                where, f"has no column {item.name!r}, which inputs.{item.name} reads", fix
            )
    for name, kind in columns.items():
        if kind in {"BLOB", "BIT"}:
            what = f"column {name!r} is binary ({kind}), which cannot be kept with a result"
            fix = f'leave it out: prompts: {{sql: "SELECT * EXCLUDE ({quoted(name)}) FROM ..."}}'  # noqa: S608 - words, not a query
            yield Problem(where, what, fix)


@dataclass(frozen=True, slots=True)
class _Test:
    """A condition that a column must not meet."""

    column: str
    condition: Condition


def _values(
    con: duckdb.DuckDBPyConnection,
    catalog: Catalog,
    definitions: Definitions,
    columns: Mapping[str, str],
) -> Iterator[Problem]:
    """What is wrong with the values in the columns: all of it in one scan."""
    where = prompts_label(catalog)
    tests: list[_Test] = []
    for number, item in enumerate(catalog.inputs):
        column = column_of(item, columns)
        if column is None:
            continue
        kind, specs = columns[column], _specs(catalog, definitions, item)
        wrong = nothing_but(kind, [] if item.is_file else specs)
        if wrong is not None and _is_empty(con, column):
            wrong, specs = None, []  # a column without values has an accidental type
        if wrong is not None:
            what = f"is {wrong[0]}"
            yield Problem(f"{where} column {column!r}", what, wrong[1])
            continue
        seed = catalog.seed
        beyond = catalog.variants - 1 if seed is not None and seed.name == item.name else 0
        found = conditions(
            item, quoted(column), kind, specs, definitions, beyond=beyond, key=str(number)
        )
        tests += [_Test(column, condition) for condition in found]
    if not tests:
        return
    selected = ", ".join(
        f"count(*) FILTER ({test.condition.sql}), "
        f"min({ROW}, {ROWS_NAMED}) FILTER ({test.condition.sql})"
        for test in tests
    )
    parameters = {key: value for test in tests for key, value in test.condition.parameters.items()}
    # S608: columns are quoted, values are parameters.
    query = f"SELECT {selected} FROM {ROWS}"  # noqa: S608
    ((*results,),) = con.execute(query, parameters).fetchall()
    for at, test in enumerate(tests):
        count, rows = results[2 * at], results[2 * at + 1]
        if count:
            yield _problem(con, where, test, count, rows)


def _is_empty(con: duckdb.DuckDBPyConnection, column: str) -> bool:
    query = f"SELECT count({quoted(column)}) FROM {ROWS}"  # noqa: S608 - quoted
    ((count,),) = con.execute(query).fetchall()
    return bool(count == 0)


def _problem(
    con: duckdb.DuckDBPyConnection, where: str, test: _Test, count: int, rows: list[int]
) -> Problem:
    column = quoted(test.column)
    query = f"SELECT CAST({column} AS VARCHAR) FROM {ROWS} WHERE {ROW} IN (SELECT unnest(?)) ORDER BY {ROW}"  # noqa: S608, E501 - quoted
    values = [value for (value,) in con.execute(query, [rows]).fetchall()]
    named = ", ".join(
        f"row {row}" + ("" if value is None else f" ({_shown(value)})")
        for row, value in zip(rows, values, strict=True)
    )
    more = f" and {count - len(rows)} more" if count > len(rows) else ""
    what = f"{test.condition.what}: {named}{more}"
    return Problem(f"{where} column {test.column!r}", what, test.condition.fix)


def _shown(value: str) -> str:
    return repr(value if len(value) <= VALUE_SHOWN_MAX else value[:VALUE_SHOWN_MAX] + "...")


def _duplicate_ids(
    con: duckdb.DuckDBPyConnection, catalog: Catalog, columns: Mapping[str, str]
) -> Iterator[Problem]:
    name = next((name for name in columns if name.lower() == "id"), None)
    if name is None:
        return
    column = quoted(name)
    # S608: the column is quoted.
    query = (
        f"SELECT CAST({column} AS VARCHAR), count(*), min({ROW}, 2), count(*) OVER () FROM {ROWS} "  # noqa: S608
        f"WHERE {column} IS NOT NULL GROUP BY {column} HAVING count(*) > 1 "
        f"ORDER BY min({ROW}) LIMIT {ROWS_NAMED}"
    )
    found = con.execute(query).fetchall()
    if found:
        named = ", ".join(
            f"{_shown(value)} in rows {' and '.join(str(row) for row in rows)}"
            for value, _, rows, _ in found
        )
        more = found[0][3] - len(found)
        what = f"holds ids twice: {named}" + (f" and {more} more" if more > 0 else "")
        where = f"{prompts_label(catalog)} column {name!r}"
        yield Problem(where, what, "an id names one row; make them unique, or rename the column")


def _files(con: duckdb.DuckDBPyConnection, catalog: Catalog) -> Iterator[Problem]:
    """Input files that are not there, or cannot be sent."""
    told, untold = 0, 0
    with ThreadPoolExecutor(THREADS) as pool, con.cursor() as reader:
        for batch in named_files(reader, catalog):
            for value, problem in zip(
                batch,
                pool.map(lambda value: file_problem(catalog, value), batch),
                strict=True,
            ):
                if problem is not None and told < FILES_TOLD_MAX:
                    told += 1
                    yield Problem(_file_place(con, catalog, value), problem.what, problem.fix)
                elif problem is not None:
                    untold += 1
    if untold:
        yield Problem(prompts_label(catalog), f"{untold} more input files cannot be used")


def _file_place(con: duckdb.DuckDBPyConnection, catalog: Catalog, value: str) -> str:
    """The first row and column, or the default, that names a file."""
    columns = load_rows(con, catalog)
    for item in catalog.inputs:
        column = column_of(item, columns) if item.is_file else None
        if item.is_file and item.default == value:
            return f"{_input_place(item)} default: file {value}"
        if column is not None:
            query = f"SELECT min({ROW}) FROM {ROWS} WHERE CAST({quoted(column)} AS VARCHAR) = ?"  # noqa: S608 - quoted
            ((row,),) = con.execute(query, [value]).fetchall()
            if row is not None:
                return f"{prompts_label(catalog)} row {row} column {column!r}: file {value}"
    return f"file {value}"
