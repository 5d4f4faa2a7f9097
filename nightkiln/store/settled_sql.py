"""The SQL of what all views stand on: every committed row, the one that counts, and its numbers.

Before the first compaction they read the shards alone. After it they read the files that the
newest manifest names, and the shards that it does not replace: those by a pattern, as runs commit
without writing views anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

import pyarrow as pa

from nightkiln.store.manifest import Manifest
from nightkiln.store.rows import RESULTS
from nightkiln.store.sql_files import literal, sql_file

Kind = Literal["outputs", "attempts"]
KINDS: tuple[Kind, ...] = ("outputs", "attempts")

# How many a job had is a column of its own, so that no list is read for nothing but its length. A
# row's outputs are numbered from 0 on, without a gap.
_NUMBER: Mapping[Kind, str] = {
    "outputs": "unnest(out_index) + 1",
    "attempts": "unnest(range(1, attempt_count + 1))",
}
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
    by_name, more = by_name_sql(has_versions=has_versions), _more(has_versions=has_versions)
    if not manifest.files:
        results = sql_file("results", root=root, by_name=by_name, more=more)
        return "\n".join((results, sql_file("settled")))
    return "\n".join(
        (
            sql_file(
                "results_compacted",
                root=root,
                manifest=str(manifest.number),
                compacted=_compacted(root, (one.key for one in manifest.files), by_name),
                by_name=by_name,
                where=_not_folded(manifest),
                more=more,
            ),
            sql_file("settled_compacted"),
        )
    )


def numbered_sql(root: str, manifest: Manifest, kind: Kind, *, has_versions: bool = False) -> str:
    """A question for the rows of ``_settled``, each as often as it has outputs or attempts: i.

    Compacted files in which every row has as many are read without looking at its lists for that.
    """
    unfolded = f"select *, {_NUMBER[kind]} as i from"
    counts = {one.key: getattr(one.shape, kind) for one in manifest.files if one.shape is not None}
    if not counts:
        return f"{unfolded} _settled"
    by_name, more = by_name_sql(has_versions=has_versions), _more(has_versions=has_versions)
    parts = [f"{unfolded} _fresh{more}"]
    mixed = [one.key for one in manifest.files if one.key not in counts]
    if mixed:
        parts.append(f"{unfolded} ({_compacted(root, mixed, by_name)})")
    for count in sorted(set(counts.values()) - {0}):
        keys = [key for key, has in counts.items() if has == count]
        numbers = ", ".join(f"({number})" for number in range(1, count + 1))
        parts.append(f"from ({_compacted(root, keys, by_name)}), (values {numbers}) numbers(i)")
    return sql_file("numbered_compacted", parts="\nunion all by name\n".join(parts))


def _compacted(root: str, keys: Iterable[str], by_name: str) -> str:
    files = ", ".join(f"'{root}{key}'" for key in keys)
    return sql_file("compacted", files=files, by_name=by_name).rstrip()


def by_name_sql(*, has_versions: bool) -> str:
    """What is added to a list of files where some are of an earlier schema.

    Not without need: DuckDB opens every file for it, also where a question needs none.
    """
    return ", union_by_name = true" if has_versions else ""


def _more(*, has_versions: bool) -> str:
    """What is added to all rows then: those of an earlier schema may lack a column."""
    if not has_versions:
        return ""
    return f"\nunion all by name\nselect {_columns(RESULTS)} where false"


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
