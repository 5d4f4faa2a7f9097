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

    It asks of a file's name alone, so that DuckDB decides without opening the file: one that is
    replaced may be removed at any moment. The runs are one text in which a name is looked up; an
    alternative of a pattern each took six times as long at 300 runs, and a table is not asked
    before the file is open.
    """
    if not manifest.folded:
        return ""
    runs = literal("|" + "".join(f"{one.run}:{one.below}|" for one in manifest.folded))
    run = r"regexp_extract(filename, 'results/(dt=[^/]*/[^/]*)-[0-9]+\.parquet$', 1)"
    number = r"regexp_extract(filename, '-([0-9]+)\.parquet$', 1)"
    below = f"split_part(split_part({runs}, concat('|', {run}, ':'), 2), '|', 1)"
    return f"\nwhere coalesce(try_cast({number} as bigint) >= try_cast({below} as bigint), true)"
