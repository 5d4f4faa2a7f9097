"""Catalogs with different columns and types in one store: each keeps its own."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.catalog import load_catalog, load_rows, plan_jobs, scratch, stream_jobs
from nightkiln.store.commit import create_or_same, shard_key
from nightkiln.store.processes import Process
from nightkiln.store.records import BatchStart, write_batch_start
from nightkiln.store.rows import parquet_bytes, rows_table
from nightkiln.store.store import Store
from nightkiln.testing.samples import write_catalog
from nightkiln.testing.settled import BATCH, done
from tests.examples import few

words = st.text("abc ,\"'[]{}\\\n:é", max_size=6)


@dataclass(frozen=True)
class Kind:
    """A type that a column may have, and values of it."""

    arrow: pa.DataType
    values: st.SearchStrategy[Any]


KINDS = {
    "BOOLEAN": Kind(pa.bool_(), st.booleans()),
    "INTEGER": Kind(pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    "BIGINT": Kind(pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "UBIGINT": Kind(pa.uint64(), st.integers(0, 2**64 - 1)),
    "DOUBLE": Kind(pa.float64(), st.floats(allow_nan=False, allow_infinity=False)),
    "VARCHAR": Kind(pa.string(), words),
    "DATE": Kind(pa.date32(), st.dates(dt.date(1, 1, 1), dt.date(9999, 12, 31))),
    "TIMESTAMP": Kind(pa.timestamp("us"), st.datetimes()),
    "BIGINT[]": Kind(pa.list_(pa.int64()), st.lists(st.integers(0, 9), max_size=3)),
    "VARCHAR[]": Kind(pa.list_(pa.string()), st.lists(words, max_size=3)),
    "STRUCT": Kind(
        pa.struct([("a", pa.int64()), ("b", pa.string())]),
        st.fixed_dictionaries({"a": st.integers(0, 9), "b": words}),
    ),
}
kinds = st.sampled_from(sorted(KINDS))


def render(
    store: Store, folder: Path, name: str, *, kind: str, column: str, values: list[Any]
) -> None:
    """A batch of a catalog with one column of its own, every job done."""
    catalog_folder = write_catalog(folder / name, 1, name=name)
    table = pa.table(
        {
            "prompt": [f"{name} {number}" for number in range(len(values))],
            column: pa.array(values, KINDS[kind].arrow),
        }
    )
    pq.write_table(table, catalog_folder / "prompts.parquet")
    catalog = load_catalog(catalog_folder)
    batch = replace(BATCH, batch=name, catalog=name)
    with scratch() as con:
        types = {key: kind for key, kind in load_rows(con, catalog).items() if key == column}
        plan_jobs(con, catalog, batch=name)
        jobs = list(stream_jobs(con, catalog, "planned"))
    process, bound = Process("here", 1, "", ""), {"prompt": "VARCHAR"}
    start = BatchStart(batch, "c" * 64, process, 1.0, len(jobs), "0", types, bound)
    write_batch_start(store.blobs, start)
    settled = [replace(done(number), job=job) for number, job in enumerate(jobs)]
    key = shard_key(batch, 0)
    create_or_same(store.blobs, key, parquet_bytes(rows_table(settled, batch, key)))


def column_of(store: Store, view: str, column: str, where: str = "true") -> tuple[str, list[Any]]:
    """Type and values of a column, in the order of the catalog's rows."""
    with store.connect() as con:
        kinds_ = {name: kind for name, kind, *_ in con.execute(f"describe {view}").fetchall()}
        sql = f'select "{column}" from {view} where {where} order by batch, "row"'  # noqa: S608
        values = [value for (value,) in con.execute(sql).fetchall()]
    [kind] = [kind for name, kind in kinds_.items() if name.lower() == column.lower()]
    return kind, values


def as_json(value: Any) -> Any:
    return value if value is None else json.loads(value)


def same(kind: str, shown_kind: str, shown: list[Any], values: list[Any]) -> bool:
    """Whether a column shows what the catalog said: as itself, or as text that says the same."""
    if shown_kind == kind:
        return shown == values
    if kind == "STRUCT" or kind.endswith("[]"):
        return [as_json(value) for value in shown] == values
    return all((a is None) == (b is None) for a, b in zip(shown, values, strict=True))


@pytest.mark.nights
@few(4, of=100)
@given(
    first=kinds,
    second=kinds,
    data=st.data(),
    other_name=st.sampled_from(["level", "LEVEL", "Depth"]),
)
def test_two_catalogs_keep_their_columns_whatever_their_types_and_names(
    first: str, second: str, data: st.DataObject, other_name: str
) -> None:
    def some(kind: str) -> list[Any]:
        return data.draw(st.lists(st.none() | KINDS[kind].values, min_size=1, max_size=2))

    ours, theirs = some(first), some(second)
    with TemporaryDirectory() as name:
        folder = Path(name)
        store = Store.open(f"{name}/store", create=True)
        render(store, folder, "ours", kind=first, column="level", values=ours)
        render(store, folder, "theirs", kind=second, column=other_name, values=theirs)

        own = column_of(store, "jobs_ours", "level")
        their = column_of(store, "jobs_theirs", other_name)
        shared_kind, shared = column_of(store, "jobs", "level", "catalog = 'ours'")
        _, absent = column_of(store, "catalog_rows", "Depth" if other_name == "Depth" else "level")

    assert same(first, *own, ours)
    assert same(second, *their, theirs)
    is_one = other_name != "Depth"
    if is_one and first != second:
        assert shared_kind == "VARCHAR"
    else:
        assert (shared_kind, shared) == own
    assert len(absent) == len(ours) + len(theirs)


def test_texts_in_a_list_are_what_they_were(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"), create=True)
    odd = ["two\nlines", "a\ttab", 'a "quote"', "back\\slash", "é, ü", ""]
    render(store, tmp_path, "lists", kind="VARCHAR[]", column="tags", values=[odd, None, []])

    assert column_of(store, "jobs", "tags") == ("VARCHAR[]", [odd, None, []])


@pytest.mark.parametrize("name", ["jobs", "status", "sql", "a-b", "select"])
def test_a_catalog_may_be_called_like_anything_of_ours(tmp_path: Path, name: str) -> None:
    store = Store.open(str(tmp_path / "store"), create=True)
    render(store, tmp_path, name, kind="BIGINT", column="job_id", values=[3])

    with store.connect() as con:
        asked = f'select "catalog_job_id", length(job_id) from "jobs_{name}"'  # noqa: S608 - ours

        assert con.execute(asked).fetchall() == [(3, 64)]


def test_a_bound_value_and_a_column_of_one_name_in_two_catalogs_are_both_there(
    tmp_path: Path,
) -> None:
    store = Store.open(str(tmp_path / "store"), create=True)
    for number, (name, column) in enumerate([("bound", "other"), ("free", "steps")]):
        render(store, tmp_path, name, kind="BIGINT", column=column, values=[number])
    batch = replace(BATCH, batch="more", catalog="bound")
    process = Process("here", 1, "", "")
    params: Mapping[str, str] = {"steps": "BIGINT"}
    write_batch_start(store.blobs, BatchStart(batch, "c" * 64, process, 2.0, 1, "0", {}, params))
    key = shard_key(batch, 0)
    create_or_same(store.blobs, key, parquet_bytes(rows_table([done(7)], batch, key)))

    with store.connect() as con:
        found = con.execute(
            "select batch, steps, catalog_steps from jobs order by batch"
        ).fetchall()

    assert found == [("bound", None, None), ("free", None, 1), ("more", 20, None)]
