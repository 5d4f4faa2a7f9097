"""A large answer comes in slices that leave nothing out and give nothing twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import duckdb
from hypothesis import example, given
from hypothesis import strategies as st

from nightkiln.export.exporting import export
from nightkiln.export.request import Format, Request
from nightkiln.export.slicing import BUCKET_ROWS, Count, slices
from tests.adapters.export_world import a_store
from tests.examples import few

# Rows of a few batches, some of them without a row of the catalog, and how much a slice may hold.
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["a", "a.b", "b", "it's", "z"]),
        st.one_of(st.none(), st.integers(0, 9).map(lambda number: number * BUCKET_ROWS // 2)),
    ),
    max_size=40,
)


@few(30, of=1000)
@given(rows=ROWS, outputs_max=st.integers(1, 12))
@example(rows=[("a", 0), ("b", 0), ("b", 2000), ("z", 0)], outputs_max=1)
@example(rows=[("a", 0), ("b", 0), ("b", 2000), ("z", 0), ("a", None)], outputs_max=2)
def test_slices_are_all_of_it_in_order_and_once(
    rows: list[tuple[str, int | None]], outputs_max: int
) -> None:
    with duckdb.connect() as con:
        con.execute("create table t (batch varchar, row bigint)")
        if rows:
            con.executemany("insert into t values (?, ?)", rows)
        order = "order by batch, row nulls last"
        whole = con.execute(f"select batch, row from t {order}").fetchall()  # noqa: S608

        found = [
            con.execute(f"select batch, row from t where {condition} {order}").fetchall()  # noqa: S608
            for condition in slices(counted(rows), outputs_max=outputs_max)
        ]

    assert [row for part in found for row in part] == whole
    for part in found:
        buckets = {(batch, bucket_of(row)) for batch, row in part}
        assert len(part) <= outputs_max or len(buckets) == 1


def bucket_of(row: int | None) -> int | None:
    return row // BUCKET_ROWS if row is not None else None


def counted(rows: list[tuple[str, int | None]]) -> list[Count]:
    counts = Counter((batch, bucket_of(row)) for batch, row in rows)
    return [
        Count(batch, bucket, count)
        for (batch, bucket), count in sorted(
            counts.items(), key=lambda item: (item[0][0], item[0][1] is None, item[0][1])
        )
    ]


def test_conditions_about_files_and_about_jobs_are_both_counted(tmp_path: Path) -> None:
    store = a_store(tmp_path / "store")
    about_files = Request(tmp_path / "f", Format.CSV, where="index = 0 and seed > 0")
    about_jobs = Request(tmp_path / "j", Format.CSV, where="seed > 0")

    assert export(store, about_files).totals.samples == 2
    assert export(store, about_jobs).totals.samples == 2
