"""The SQL over the store's Parquet files: one named file per view, the catalogs' columns added.

A catalog's other columns and its bound values lie in two JSON columns, whatever their names and
types, so that no catalog can break another's queries. Here they become columns of ``jobs``. Their
names come out of strangers' files: they are quoted as identifiers, never pasted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nightkiln.store.answers import ANSWERS, answers_sql
from nightkiln.store.manifest import Manifest
from nightkiln.store.settled_sql import KINDS, by_name_sql, numbered_sql, settled_sql
from nightkiln.store.sql_files import glob_root, literal, sql_file

UNFOLDED_MAX = 500  # columns that views show; the JSON holds all
NAME_CHARS_MAX = 200

VIEWS = (
    "jobs",
    "outputs",
    "attempts",
    "catalog_rows",
    "leases",
    "charges",
    "runs",
    "batches",
    "quotes",
    "calibration",
    "scorecard",
    "blocklist",
    *ANSWERS,
)

# What every other view of rows stands on.
_BASE = frozenset({"_settled", "charges", "leases"})

# What ``jobs`` has of its own: these names win over a catalog's.
OWN_COLUMNS = frozenset(
    {
        "job_id",
        "batch",
        "dt",
        "epoch",
        "catalog",
        "status",
        "fault",
        "error",
        "prompt",
        "negative",
        "seed",
        "width",
        "height",
        "uri",
        "sha256",
        "output_count",
        "provider",
        "gpu",
        "host",
        "lease_id",
        "attempt_count",
        "queued_at",
        "started_at",
        "finished_at",
        "queue_s",
        "gpu_seconds",
        "download_s",
        "usd",
        "usd_marginal",
        "workflow_digest",
        "environment_digest",
        "replaces",
        "row",
        "rows",
        "columns",
        "params",
        "commit_key",
        "schema_version",
    }
)

# Types that a text can be cast to and every client can show. Anything else stays text.
_TYPE = re.compile(
    r"(BOOLEAN|TINYINT|SMALLINT|INTEGER|BIGINT|HUGEINT|UTINYINT|USMALLINT|UINTEGER|UBIGINT"
    r"|FLOAT|DOUBLE|DECIMAL\([0-9]{1,2},[0-9]{1,2}\)|DATE|TIME|TIMESTAMP|VARCHAR)(\[\])?"
)
_TEXT = "VARCHAR"
_LIST = "[]"


@dataclass(frozen=True, slots=True)
class CatalogColumns:
    """What one catalog brings: names and DuckDB types of its other columns and its inputs."""

    catalog: str
    columns: Mapping[str, str]
    params: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Field:
    """One JSON field of one catalog, on its way to become a column."""

    source: str  # columns | params
    name: str
    type: str

    @property
    def text(self) -> str:
        return f"s.{self.source} ->> {self._pointer}"

    @property
    def json(self) -> str:
        return f"s.{self.source} -> {self._pointer}"

    @property
    def _pointer(self) -> str:
        # A JSON pointer: a plain name that starts with "$" or "/" would be taken for a path.
        return literal("/" + self.name.replace("~", "~0").replace("/", "~1"))


def identifier(name: str) -> str:
    """A SQL name, whatever it is."""
    return '"' + name.replace('"', '""') + '"'


def merged(records: Iterable[tuple[str, str]]) -> list[CatalogColumns]:
    """One entry per catalog out of (catalog, columns_json) of every run, oldest first.

    Columns that an older state of the catalog had are kept: its jobs are still there.
    """
    found: dict[str, CatalogColumns] = {}
    for catalog, text in records:
        entry = _parsed(text)
        before = found.get(catalog, CatalogColumns(catalog, {}, {}))
        found[catalog] = CatalogColumns(
            catalog,
            {**before.columns, **_names(entry.get("columns"))},
            {**before.params, **_names(entry.get("params"))},
        )
    return [found[catalog] for catalog in sorted(found)]


@dataclass(frozen=True, slots=True)
class Has:
    """What a store has files of: stores of before lack some, and a view needs one to begin with."""

    scores: bool
    quotes: bool
    charges: bool
    manifest: Manifest
    versions: bool  # rows of an earlier schema, too


def views_sql(
    root: str, catalogs: Sequence[CatalogColumns], has: Has, *, only: Collection[str] = ()
) -> str:
    """Statements that create every view over the store at ``root`` ("": the current folder).

    With ``only``, beside those that all stand on: DuckDB looks into the files for every view, and
    once more for each that stands on it.
    """
    wanted = _BASE.union(only)
    parts = _parts(glob_root(root), catalogs, has)
    return "\n".join(sql for name, sql in parts if not only or name in wanted)


def _parts(root: str, catalogs: Sequence[CatalogColumns], has: Has) -> Iterator[tuple[str, str]]:
    """Every view by its name, after all that it stands on."""
    shared = _unfolded(catalogs)
    yield "_settled", settled_sql(root, has.manifest, has_versions=has.versions)
    yield "charges", sql_file("charges" if has.charges else "charges_none", root=root)
    by_name = by_name_sql(has_versions=has.versions)
    yield "leases", sql_file("leases", root=root, by_name=by_name)
    yield "runs", sql_file("runs", root=root)
    yield "batches", sql_file("batches")
    yield "jobs", sql_file("jobs", view="jobs", unfolded=shared, where="")
    yield from _jobs_of_each(catalogs)
    if has.quotes:
        yield "quotes", sql_file("quotes", root=root)
        yield "calibration", sql_file("calibration")
    if has.scores:
        yield "scorecard", sql_file("scorecard", root=root)
        yield "blocklist", sql_file("blocklist", root=root)
    for kind in KINDS:
        numbered = numbered_sql(root, has.manifest, kind, has_versions=has.versions)
        yield kind, sql_file(kind, numbered=numbered)
    yield "catalog_rows", sql_file("catalog_rows", unfolded=shared)
    yield "answers", answers_sql()  # with all others only


def _jobs_of_each(catalogs: Sequence[CatalogColumns]) -> Iterator[tuple[str, str]]:
    """``jobs`` once more for each catalog, with its own columns alone."""
    taken: set[str] = set()
    for one in catalogs:
        view = f"jobs_{one.catalog}"
        if view.lower() in taken or not _is_showable(one.catalog):
            continue
        taken.add(view.lower())
        where = f"\nwhere s.catalog = {literal(one.catalog)}"
        unfolded = _unfolded([one])
        yield view, sql_file("jobs", view=identifier(view), unfolded=unfolded, where=where)


def _unfolded(catalogs: Sequence[CatalogColumns]) -> str:
    """The extra columns of ``jobs``: one per name, merged over ``catalogs``."""
    fields: dict[tuple[str, str], list[_Field]] = {}  # by source and name without case
    for source in ("params", "columns"):
        for one in catalogs:
            for name, type_ in getattr(one, source).items():
                if _is_showable(name):
                    fields.setdefault((source, name.lower()), []).append(
                        _Field(source, name, type_)
                    )
    taken = set(OWN_COLUMNS)
    lines: list[str] = []
    for (source, lowered), group in list(fields.items())[:UNFOLDED_MAX]:
        if source == "params" and lowered in {"prompt", "negative", "seed"}:
            continue  # the own columns of these names are the bound values
        name = _free_name(group[0].name, "param" if source == "params" else "catalog", taken)
        taken.add(name.lower())
        lines.append(f",\n    {_expression(group)} as {identifier(name)}")
    return "".join(lines)


def _free_name(name: str, prefix: str, taken: set[str]) -> str:
    if name.lower() not in taken:
        return name
    candidates: Iterator[str] = (
        f"{prefix}_{name}" + (f"_{number}" if number > 1 else "")
        for number in range(1, len(taken) + 2)
    )
    return next(candidate for candidate in candidates if candidate.lower() not in taken)


def _expression(group: Sequence[_Field]) -> str:
    types = {field.type if _TYPE.fullmatch(field.type) else _TEXT for field in group}
    [kind] = types if len(types) == 1 else [_TEXT]
    if kind.endswith(_LIST):
        # Casting the text of a list would take JSON's escapes for letters.
        return f"json_transform({_first(field.json for field in group)}, '[\"{kind[:-2]}\"]')"
    text = _first(field.text for field in group)
    return text if kind == _TEXT else f"try_cast({text} as {kind})"


def _first(expressions: Iterable[str]) -> str:
    """The value under whichever spelling of a name it is there."""
    spellings = list(dict.fromkeys(expressions))
    return spellings[0] if len(spellings) == 1 else f"coalesce({', '.join(spellings)})"


def _is_showable(name: str) -> bool:
    return 0 < len(name) <= NAME_CHARS_MAX and name.isprintable()


def _parsed(text: str) -> dict[str, Any]:
    try:
        entry = json.loads(text)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _names(entry: object) -> dict[str, str]:
    if not isinstance(entry, dict):
        return {}
    return {str(name): str(type_) for name, type_ in entry.items()}
