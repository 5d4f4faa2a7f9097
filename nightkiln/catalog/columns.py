"""Rows to jobs by column: ``nightkiln.core.plan`` in SQL, for millions of rows.

A property test holds the two equal; change one only with the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from nightkiln.catalog.catalog import Catalog, CatalogInput
from nightkiln.catalog.files import FILES, hash_files, quoted
from nightkiln.catalog.rows import ROW, ROWS, gist, load_rows
from nightkiln.core.errors import BadInput, Problem
from nightkiln.core.plan import (
    EXACT_BELOW,
    RESEED_VERSION,
    SEED_HEX_DIGITS,
    Input,
    Recipe,
    SeedRule,
    encoded,
    id_prefix,
    name_encoded,
    seed_prefix,
)

INTEGERS = frozenset(
    {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"}
    | {"UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"}
)
FLOATS = frozenset({"FLOAT", "DOUBLE"})
HEAD_HEX_DIGITS = 32  # of an id's 64


@dataclass(frozen=True, slots=True)
class Planned:
    """How much there is to do."""

    rows: int
    jobs: int  # distinct: rows that mean the same pixels are one job


def plan_jobs(
    con: duckdb.DuckDBPyConnection, catalog: Catalog, *, batch: str, fetched: Path | None = None
) -> Planned:
    """Fill ``planned`` and ``repeats`` with the ids of all jobs of the catalog.

    ``planned`` (job_id VARCHAR, row BIGINT, variant INTEGER, seed HUGEINT, replaces VARCHAR, head
    UHUGEINT) has a line per row and variant: ``row`` is 0-based in the order of the catalog,
    ``seed`` null where none is bound, ``replaces`` null (``catalog.again`` fills it), ``head`` what
    ``head_of`` says of the id.
    ``repeats`` (row, variant, first_row, first_variant) are those lines whose job an earlier line
    means already, and the first that means it.
    ``fetched`` is where input files behind URIs are copied to. Preflight comes first: here a bad
    value ends the plan at the first.

    Raises:
        BadInput: the prompts or input files cannot be read, or hold what preflight refuses.
    """
    columns = load_rows(con, catalog)
    hash_files(con, catalog, fetched=fetched)
    recipe = recipe_of(con, catalog, columns, batch=batch)
    query, parameters = _planned(recipe, columns)
    try:
        con.execute(f"CREATE OR REPLACE TABLE planned AS {query}", parameters)
    except duckdb.Error as error:
        fix = "nightkiln check shows every row that is wrong"
        raise BadInput([Problem(str(catalog.folder), gist(error), fix)]) from error
    return count_planned(con)


def count_planned(con: duckdb.DuckDBPyConnection) -> Planned:
    """Fill ``repeats`` by what is in ``planned``, and count both."""
    con.execute(_REPEATS)
    ((rows, lines, repeats),) = con.execute(
        "SELECT (SELECT count(*) FROM catalog_rows), (SELECT count(*) FROM planned), "
        "(SELECT count(*) FROM repeats)"
    ).fetchall()
    return Planned(rows=rows, jobs=lines - repeats)


# Only lines whose 64-bit hash occurs twice are compared in full: few, and cheap to find.
_REPEATS = """
CREATE OR REPLACE TABLE repeats AS
WITH suspects AS (
  SELECT hash(head) AS suspect FROM planned GROUP BY suspect HAVING count(*) > 1
)
SELECT row, variant, first_value(row) OVER first AS first_row,
  first_value(variant) OVER first AS first_variant
FROM (SELECT job_id, row, variant FROM planned WHERE hash(head) IN (FROM suspects))
WINDOW first AS (PARTITION BY job_id ORDER BY row, variant)
QUALIFY row_number() OVER first > 1
"""


def head_of(job_id: str) -> str:
    """The SQL of an id's first 128 bits: what millions of ids are joined by.

    As exact as the ids themselves (they are digests), in a quarter of the memory: ids as text do
    not fit, so that DuckDB writes both sides of a join to disk. Null where a text is no id.
    """
    return f"TRY_CAST('0x' || left({job_id}, {HEAD_HEX_DIGITS}) AS UHUGEINT)"


def recipe_of(
    con: duckdb.DuckDBPyConnection, catalog: Catalog, columns: Mapping[str, str], *, batch: str
) -> Recipe:
    """What decides the jobs of these rows; ``input_files`` knows the files of constants."""
    seed = catalog.seed
    return Recipe(
        template_digest=catalog.template.digest,
        environment_digest=catalog.environment.digest,
        inputs=tuple(
            Input(
                item.name,
                is_column=column_of(item, columns) is not None,
                default=_file_digest(con, item) if item.is_file else item.default,
                is_file=item.is_file,
            )
            for item in catalog.inputs
        ),
        seed=seed.name if seed is not None else None,
        seed_rule=seed.seed_rule if seed is not None else SeedRule.GIVEN,
        variants=catalog.variants,
        batch=batch,
    )


def _file_digest(con: duckdb.DuckDBPyConnection, item: CatalogInput) -> str | None:
    if item.default is None:
        return None
    query = f"SELECT sha256 FROM {FILES} WHERE value = ?"  # noqa: S608 - a constant
    ((digest,),) = con.execute(query, [str(item.default)]).fetchall()
    return str(digest)


def column_of(item: CatalogInput, columns: Mapping[str, str]) -> str | None:
    """The column that an input reads, whatever its case; None if it is a constant."""
    if item.is_constant:
        return None
    return next((name for name in columns if name.lower() == item.name.lower()), None)


def value_expression(name: str, kind: str, *, as_text: bool = False) -> str:
    """A column's value as it is bound: whole numbers, doubles, true/false, text."""
    column = quoted(name)
    if as_text or not is_plain(kind):
        return f"CAST({column} AS VARCHAR)"
    return column if kind in INTEGERS or kind == "BOOLEAN" else f"CAST({column} AS DOUBLE)"


def is_plain(kind: str) -> bool:
    """Whether values of this type are numbers or true/false; others are bound as text."""
    return kind in INTEGERS or kind == "BOOLEAN" or is_fractional(kind)


def is_fractional(kind: str) -> bool:
    """Whether values of this type are bound as doubles."""
    return kind in FLOATS or kind.startswith("DECIMAL(")


def _encoded(value: str, kind: str) -> str:
    """``plan.encoded`` of a bound value of a column of type ``kind``."""
    if kind == "BOOLEAN":
        return f"CASE WHEN {value} THEN 'b1:1' WHEN NOT {value} THEN 'b1:0' END"
    if kind in INTEGERS:
        return _tagged("n", f"CAST({value} AS VARCHAR)")
    if is_fractional(kind):
        whole = f"{value} = trunc({value}) AND abs({value}) < {EXACT_BELOW}"
        text = (
            f"CASE WHEN {whole} THEN CAST(TRY_CAST({value} AS BIGINT) AS VARCHAR) "
            f"ELSE printf('%.17g', {value}) END"
        )
        return _tagged("n", text)
    return _tagged("s", value)


def _tagged(tag: str, text: str) -> str:
    return f"'{tag}' || strlen({text}) || ':' || {text}"


def _planned(recipe: Recipe, columns: Mapping[str, str]) -> tuple[str, dict[str, object]]:
    """The query of ``planned``: a text per input, then the seed, then the id over all."""
    kinds = {name.lower(): (name, kind) for name, kind in columns.items()}
    texts, selected, joins, parameters = _texts(recipe, kinds)
    given, seed = "NULL", "NULL"
    for item in recipe.inputs:
        if item.name == recipe.seed:
            given = _given_seed(item, kinds, parameters)
            seed = _seed(recipe, parameters)
    query = f"""
        SELECT {_ids(texts)}, row, variant, seed,
          CAST(NULL AS VARCHAR) AS replaces, {head_of("job_id")} AS head
        FROM (
          SELECT *, CAST({seed} AS HUGEINT) AS seed
          FROM (
            SELECT {ROW} AS row, CAST(unnest(range({recipe.variants})) AS INTEGER) AS variant,
              {", ".join([*selected, f"CAST({given} AS HUGEINT) AS given"])}
            FROM {ROWS} {joins}
          )
        )"""  # noqa: S608 - columns are quoted, values are parameters
    used = {name: value for name, value in parameters.items() if f"${name}" in query}
    return query, used


def reseeded_query(
    recipe: Recipe, columns: Mapping[str, str], lines: str
) -> tuple[str, dict[str, object]]:
    """``planned`` for the lines of a table like it: each with the seed of ``plan.reseeded``."""
    kinds = {name.lower(): (name, kind) for name, kind in columns.items()}
    texts, selected, joins, parameters = _texts(recipe, kinds)
    text = f"sha256('{RESEED_VERSION}\n' || job_id)"
    seed = f"CAST('0x' || left({text}, {SEED_HEX_DIGITS}) AS BIGINT)"
    query = f"""
        SELECT {_ids(texts)}, row, variant, seed, replaces, {head_of("job_id")} AS head
        FROM (
          SELECT l.row, l.variant, l.job_id AS replaces, CAST({seed} AS HUGEINT) AS seed, c.*
          FROM {lines} l JOIN (
            SELECT {", ".join([f"{ROW} AS at", *selected])} FROM {ROWS} {joins}
          ) c ON c.at = l.row
        )"""  # noqa: S608 - columns are quoted, values are parameters
    return query, {name: value for name, value in parameters.items() if f"${name}" in query}


def _ids(texts: Sequence[str]) -> str:
    return f"sha256(concat($id_prefix, {', '.join(texts)})) AS job_id"


def _texts(
    recipe: Recipe, kinds: Mapping[str, tuple[str, str]]
) -> tuple[list[str], list[str], str, dict[str, object]]:
    """Of which texts an id is made (``t0, t1, ...``, and ``seed``), and where they come from."""
    terms = [_term(item, at, kinds) for at, item in enumerate(recipe.inputs)]
    parameters: dict[str, object] = {"id_prefix": id_prefix(recipe)}
    for term in terms:
        parameters |= term.parameters
    seed_at = next((at for at, item in enumerate(recipe.inputs) if item.name == recipe.seed), None)
    if recipe.seed is not None:
        parameters["seed_name"] = name_encoded(recipe.seed)
    seed_text = f"COALESCE($seed_name || {_tagged('n', 'CAST(seed AS VARCHAR)')}, '')"
    texts = [seed_text if at == seed_at else f"t{at}" for at in range(len(terms))]
    selected = [f"{term.expression} AS t{at}" for at, term in enumerate(terms) if at != seed_at]
    joins = " ".join(term.join for at, term in enumerate(terms) if at != seed_at)
    return texts, selected, joins, parameters


@dataclass(frozen=True, slots=True)
class _Term:
    """The SQL of one input's part of an id."""

    expression: str
    parameters: Mapping[str, object]
    join: str = ""


def _term(item: Input, at: int, kinds: Mapping[str, tuple[str, str]]) -> _Term:
    name = name_encoded(item.name)
    default = "" if item.default is None else name + encoded(item.default, is_file=item.is_file)
    if not item.is_column:
        return _Term(f"$d{at}_", {f"d{at}_": default})
    parameters = {f"d{at}_": default, f"n{at}_": name}
    column, kind = kinds[item.name.lower()]
    if item.is_file:
        text = f"'f64:' || nightkiln_f{at}.sha256"
        value = value_expression(column, kind, as_text=True)
        join = f"LEFT JOIN {FILES} nightkiln_f{at} ON nightkiln_f{at}.value = {value}"
    else:
        text, join = _encoded(value_expression(column, kind), kind), ""
    return _Term(f"COALESCE($n{at}_ || {text}, $d{at}_)", parameters, join)


def _given_seed(
    item: Input, kinds: Mapping[str, tuple[str, str]], parameters: dict[str, object]
) -> str:
    """The seed that a row, or a constant, says; NULL where it is to be derived."""
    parameters["given"] = item.default
    if not item.is_column:
        return "$given"
    column, kind = kinds[item.name.lower()]
    return f"COALESCE(CAST({value_expression(column, kind)} AS HUGEINT), CAST($given AS HUGEINT))"


def _seed(recipe: Recipe, parameters: dict[str, object]) -> str:
    """``plan.row_values``'s seed, of the texts ``t0, t1, ...`` and ``variant``."""
    if recipe.seed_rule is SeedRule.GIVEN:
        return "given + variant"
    parameters["seed_prefix"] = seed_prefix(recipe)
    texts = [
        f"t{at}"
        for at, item in enumerate(recipe.inputs)
        if item.is_column and item.name != recipe.seed
    ]
    text = ", ".join(["$seed_prefix", *texts, "variant"])
    derived = f"CAST('0x' || left(sha256(concat({text})), {SEED_HEX_DIGITS}) AS BIGINT)"
    return f"COALESCE(given + variant, {derived})"
