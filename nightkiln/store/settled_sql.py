"""The SQL of the two views that all others stand on: every committed row, and the one that counts.

Before the first compaction they read the shards alone. After it they read the files that the
newest manifest names, and the shards that it does not replace: those by a pattern, as runs commit
without writing views anew.
"""

from __future__ import annotations

import re

import pyarrow as pa

from nightkiln.store.manifest import Manifest
from nightkiln.store.rows import RESULTS
from nightkiln.store.sql_files import literal, sql_file

FOLDED_RUNS_MAX = 40  # in one pattern; DuckDB takes longer for each file, the longer it is
NUMBER_DIGITS = 6

_TYPES = {
    "string": "varchar",
    "int32": "integer",
    "int64": "bigint",
    "uint64": "ubigint",
    "double": "double",
    "timestamp[us]": "timestamp",
    "decimal128(12, 6)": "decimal(12, 6)",
}


def settled_sql(root: str, manifest: Manifest, *, has_versions: bool = False) -> str:
    """Statements that create ``_results`` and ``_settled``.

    ``root``: where the store is, as ``glob_root`` gives it. ``has_versions``: rows of an earlier
    schema are among them; columns go by their names.
    """
    by_name = ", union_by_name = true" if has_versions else ""
    more = f"\nunion all by name\nselect {_columns(RESULTS)} where false" if has_versions else ""
    if not manifest.files:
        results = sql_file("results", root=root, by_name=by_name, more=more)
        return "\n".join((results, sql_file("settled")))
    return "\n".join(
        (
            sql_file(
                "results_compacted",
                root=root,
                manifest=str(manifest.number),
                files=", ".join(f"'{root}{one.key}'" for one in manifest.files),
                by_name=by_name,
                where=_not_folded(manifest),
                more=more,
            ),
            sql_file("settled_compacted"),
        )
    )


def shown_manifest(views_sql: str) -> int:
    """By which manifest written views go; 0: none."""
    found = re.search(r"^-- manifest ([0-9]+):", views_sql, re.MULTILINE)
    return int(found[1]) if found is not None else 0


def _columns(schema: pa.Schema) -> str:
    """Every column of ``schema`` without a value: rows of an earlier schema may lack it."""
    return ", ".join(f"cast(null as {_type(field.type)}) as {field.name}" for field in schema)


def _type(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"{_type(kind.value_type)}[]"
    return _TYPES[str(kind)]


def _not_folded(manifest: Manifest) -> str:
    """The clause that leaves replaced shards out, if there are any.

    What it asks of the file's name alone, DuckDB decides without opening the file. That takes
    longer for every run in the pattern, so many runs are looked up once the file is open.
    """
    if not manifest.folded:
        return ""
    if len(manifest.folded) <= FOLDED_RUNS_MAX:
        runs = "|".join(
            f"{re.escape(one.run)}-(?:{numbers_below(one.below)})" for one in manifest.folded
        )
        pattern = literal(rf"results/(?:{runs})\.parquet$")
        return f"\nwhere not regexp_matches(filename, {pattern})"
    rows = ", ".join(f"({literal(one.run)}, {one.below})" for one in manifest.folded)
    run = r"regexp_extract(filename, 'results/(dt=[^/]*/[^/]*)-[0-9]+\.parquet$', 1)"
    number = r"try_cast(regexp_extract(filename, '-([0-9]+)\.parquet$', 1) as bigint)"
    return (
        f" r\nwhere not exists (from (values {rows}) folded(run, below) "
        f"where run = {run} and below > {number})"
    )


def numbers_below(below: int) -> str:
    """A pattern that matches the names of shards 0 to ``below`` - 1, as they are written."""
    text = f"{below:0{NUMBER_DIGITS}d}"
    parts = [
        text[:place] + _digit_below(int(digit)) + "[0-9]" * (len(text) - place - 1)
        for place, digit in enumerate(text)
        if digit != "0"
    ]
    # Longer numbers are written without leading zeros: the shorter ones are all below.
    parts += ["[0-9]" * digits for digits in range(NUMBER_DIGITS, len(text))]
    return "|".join(parts)


def _digit_below(digit: int) -> str:
    return "0" if digit == 1 else f"[0-{digit - 1}]"
