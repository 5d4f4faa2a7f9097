"""Ids by column against their pure twin, and jobs streamed from the plan."""

from __future__ import annotations

import datetime as dt
import decimal
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nightkiln.catalog import Catalog, CatalogInput, Prompts, plan_jobs, stream_jobs
from nightkiln.catalog.columns import head_of, recipe_of
from nightkiln.catalog.rows import load_rows
from nightkiln.core.errors import BadInput
from nightkiln.core.model import Graph, Job, Value
from nightkiln.core.plan import SeedRule, job_id, row_values
from nightkiln.core.workflow import Binding, Template
from tests.examples import few

# Names that a careless query would confuse with its own.
NAMES = ["prompt", "row", "variant", "given", "t0", "position", "job_id", "ä b", 'quo"ted', "o0"]
INTEGERS = {
    pa.int8(): (-(2**7), 2**7 - 1),
    pa.int64(): (-(2**63), 2**63 - 1),
    pa.uint32(): (0, 2**32 - 1),
    pa.uint64(): (0, 2**64 - 1),
}


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def catalog(
    folder: Path,
    table: pa.Table,
    *inputs: CatalogInput,
    variants: int = 1,
) -> Catalog:
    pq.write_table(table, folder / "prompts.parquet")
    graph: Graph = {"1": {"class_type": "Node", "inputs": {item.name: 0 for item in inputs}}}
    bindings = {item.name: Binding(item.to, is_file=item.is_file) for item in inputs}
    return Catalog(
        folder=folder,
        name="night",
        prompts=Prompts(path="prompts.parquet"),
        workflow="workflow.json",
        inputs=tuple(sorted(inputs, key=lambda item: item.name)),
        graph=graph,
        template=Template(graph, bindings),
        variants=variants,
    )


def entry(
    name: str,
    default: Value | None = None,
    *,
    rule: SeedRule = SeedRule.GIVEN,
    is_file: bool = False,
) -> CatalogInput:
    return CatalogInput(name, (f"Node.{name}",), default=default, seed_rule=rule, is_file=is_file)


DERIVED = entry("seed", rule=SeedRule.DERIVED)


def jobs_of(con: duckdb.DuckDBPyConnection, some: Catalog) -> list[Job]:
    plan_jobs(con, some, batch="monday")
    return list(stream_jobs(con, some, "planned"))


@st.composite
def columns(draw: st.DrawFn) -> tuple[pa.Table, list[CatalogInput]]:
    rows = draw(st.integers(1, 6))
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1, max_size=4))
    arrays, entries = {}, []
    for name in names:
        kind = draw(
            st.sampled_from([*INTEGERS, pa.float32(), pa.float64(), pa.bool_(), pa.string()])
        )
        values: st.SearchStrategy[Any]
        if kind in INTEGERS:
            values = st.integers(*INTEGERS[kind])
        elif pa.types.is_floating(kind):
            values = st.floats(
                allow_nan=False, allow_infinity=False, width=32 if kind == pa.float32() else 64
            )
            values |= st.integers(-1000, 1000).map(float)
        else:
            values = st.booleans() if kind == pa.bool_() else st.text(max_size=8)
        default = draw(st.none() | values)
        arrays[name] = pa.array(
            draw(st.lists(st.none() | values, min_size=rows, max_size=rows)), kind
        )
        if draw(st.booleans()):
            entries.append(entry(name, default))
    constant = draw(st.none() | st.text(max_size=5) | st.floats(-9, 9) | st.booleans())
    if constant is not None:
        entries.append(entry("constant", constant))
    seed = draw(st.sampled_from(["none", "derived", "per batch", "column", "mixed", "constant"]))
    if seed in {"column", "mixed"}:
        kind = draw(st.sampled_from([pa.uint64(), pa.int32(), pa.float64()]))
        values = st.integers(0, 2**64 - 10 if kind == pa.uint64() else 2**31 - 1)
        gaps = values | st.none() if seed == "mixed" else values
        picked = draw(st.lists(gaps, min_size=rows, max_size=rows))
        arrays["seed"] = pa.array(picked, kind)
    if seed != "none":
        rule = {"per batch": SeedRule.DERIVED_PER_BATCH, "column": SeedRule.GIVEN}
        default = 41 if seed == "constant" else None
        chosen = SeedRule.GIVEN if seed == "constant" else rule.get(seed, SeedRule.DERIVED)
        entries.append(entry("seed", default, rule=chosen))
    return pa.table(arrays), entries or [DERIVED]


@given(columns(), st.integers(1, 3))
@settings(few(25, of=500), suppress_health_check=[HealthCheck.too_slow])
def test_ids_by_column_are_the_ids_of_the_pure_twin(
    made: tuple[pa.Table, list[CatalogInput]], variants: int
) -> None:
    table, entries = made
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as con:
        variants = variants if any(item.name == "seed" for item in entries) else 1
        some = catalog(Path(folder), table, *entries, variants=variants)

        streamed = jobs_of(con, some)

        recipe = recipe_of(con, some, load_rows(con, some), batch="monday")
        lines = con.execute("SELECT row, variant, job_id FROM planned ORDER BY ALL").fetchall()
    twins: dict[str, tuple[dict[str, Value], list[int]]] = {}
    expected = []
    for number, row in enumerate(table.to_pylist()):
        for variant in range(variants):
            values = row_values(recipe, row, variant=variant)
            twin = job_id(recipe, values)
            expected.append((number, variant, twin))
            twins.setdefault(twin, (values, []))[1].append(number)
    assert lines == expected
    assert [(job.id, job.values, [row.number for row in job.rows]) for job in streamed] == [
        (twin, values, numbers) for twin, (values, numbers) in twins.items()
    ]


@given(columns(), st.integers(1, 3), st.data())
@settings(few(10, of=300), suppress_health_check=[HealthCheck.too_slow])
def test_of_any_plan_the_pending_jobs_are_streamed_less_the_settled_ones(
    made: tuple[pa.Table, list[CatalogInput]], variants: int, data: st.DataObject
) -> None:
    table, entries = made
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as con:
        variants = variants if any(item.name == "seed" for item in entries) else 1
        whole = jobs_of(con, some := catalog(Path(folder), table, *entries, variants=variants))
        ids = [job.id for job in whole]
        pending = data.draw(st.sets(st.sampled_from(ids)), "pending")
        settled = data.draw(st.sets(st.sampled_from(ids)), "settled")
        for name, chosen in (("todo", pending), ("over", settled)):
            listed = [*chosen, "no id of ours", "0" * 64]
            con.execute(f"CREATE TABLE {name} AS SELECT unnest(?) AS job_id", [listed])

        left = list(stream_jobs(con, some, "planned", settled="over"))
        chosen_left = list(stream_jobs(con, some, "todo", settled="over"))

    assert left == [job for job in whole if job.id not in settled]
    assert chosen_left == [job for job in left if job.id in pending]


@given(st.integers(0, 2**256 - 1), st.text(max_size=40))
@few(20, of=500)
def test_the_head_of_an_id_is_its_first_half_and_no_other_text_has_one(
    number: int, text: str
) -> None:
    digest = f"{number:064x}"
    with duckdb.connect() as con:
        query = f"SELECT {head_of('a')}, {head_of('b')} FROM (SELECT ? AS a, ? AS b)"  # noqa: S608 - ours

        [(head, of_text)] = con.execute(query, [digest, f"job {text}"]).fetchall()

    assert head == int(digest[:32], 16)
    assert of_text is None


def test_rows_that_mean_the_same_are_one_job_that_remembers_them(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    table = pa.table({"prompt": ["a fox", "a hare", "a fox"], "who": ["ann", "bob", "cid"]})
    some = catalog(tmp_path, table, entry("prompt"), DERIVED)

    planned = plan_jobs(con, some, batch="monday")
    fox, hare = stream_jobs(con, some, "planned")

    assert (planned.rows, planned.jobs) == (3, 2)
    assert [(row.number, row.columns["who"]) for row in fox.rows] == [(0, "ann"), (2, "cid")]
    assert [(row.number, row.columns["who"]) for row in hare.rows] == [(1, "bob")]


def test_only_pending_jobs_are_streamed_in_the_catalog_s_order(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    table = pa.table({"prompt": [f"fox {number}" for number in range(5000)]})
    some = catalog(tmp_path, table, entry("prompt"), DERIVED, variants=2)
    plan_jobs(con, some, batch="monday")
    con.execute("CREATE TABLE todo AS SELECT job_id FROM planned WHERE row % 2 = 1 ORDER BY job_id")

    numbers = [job.rows[0].number for job in stream_jobs(con, some, "todo")]

    assert numbers == [number for number in range(1, 5000, 2) for _ in range(2)]


def test_other_work_on_the_connection_does_not_disturb_the_stream(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    some = catalog(tmp_path, pa.table({"prompt": ["a", "b"]}), entry("prompt"), DERIVED)
    plan_jobs(con, some, batch="monday")

    seen = []
    for job in stream_jobs(con, some, "planned"):
        con.execute("SELECT count(*) FROM planned").fetchall()
        seen.append(job.values["prompt"])

    assert seen == ["a", "b"]


def test_two_streams_of_one_plan_do_not_disturb_each_other(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    table = pa.table({"prompt": [f"fox {number}" for number in range(5000)]})
    some = catalog(tmp_path, table, entry("prompt"), DERIVED)
    plan_jobs(con, some, batch="monday")
    con.execute("CREATE TEMP TABLE late AS SELECT job_id FROM planned WHERE row >= 4999")

    whole = stream_jobs(con, some, "planned")
    first = next(whole)
    [late] = stream_jobs(con, some, "late")
    rest = list(whole)

    assert first.values["prompt"] == "fox 0"
    assert len(rest) == 4999
    assert rest[-1] == late


def test_the_limit_takes_the_first_rows(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    table = pa.table({"prompt": ["a", "b", "c"]})
    some = catalog(tmp_path, table, entry("prompt"), DERIVED)

    jobs = jobs_of(con, some.with_limit(2))

    assert [job.values["prompt"] for job in jobs] == ["a", "b"]
    assert jobs_of(con, some)[:2] == jobs


def test_an_override_holds_for_every_row_whatever_the_column_says(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    table = pa.table({"prompt": ["a", "b"], "steps": [4, 8]})
    some = catalog(tmp_path, table, entry("prompt"), entry("steps"), DERIVED)

    jobs = jobs_of(con, some.with_overrides({"steps": "1"}))

    assert [job.values["steps"] for job in jobs] == [1, 1]
    assert [row.columns["steps"] for job in jobs for row in job.rows] == [4, 8]


def test_columns_that_bind_nothing_come_along_as_json_can_hold_them(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    utc = dt.UTC
    table = pa.table(
        {
            "prompt": ["a"],
            "day": [dt.date(2026, 11, 21)],
            "at": pa.array([dt.datetime(2026, 11, 21, 3, 4, 5, tzinfo=utc)]),
            "price": pa.array([decimal.Decimal("1.25")]),
            "exact": pa.array([decimal.Decimal("12345678901234567890.5")]),
            "nan": [float("nan")],
            "tags": [["x", "y"]],
            "size": [{"w": 1, "h": None}],
            "big": pa.array([2**64 - 1], pa.uint64()),
            "ok": [True],
            "gone": pa.array([None], pa.string()),
        }
    )

    [job] = jobs_of(con, catalog(tmp_path, table, entry("prompt"), DERIVED))

    assert job.rows[0].columns == {
        "day": "2026-11-21",
        "at": "2026-11-21T03:04:05Z",
        "price": 1.25,
        "exact": "12345678901234567890.5",
        "nan": None,
        "tags": ["x", "y"],
        "size": {"w": 1, "h": None},
        "big": 2**64 - 1,
        "ok": True,
        "gone": None,
    }


def test_files_are_known_by_content_and_bound_with_their_path(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    for name, content in {"a.png": b"fox", "b.PNG": b"fox", "c.png": b"hare"}.items():
        (tmp_path / name).write_bytes(content)
    table = pa.table({"image": ["a.png", "b.PNG", "c.png", None]})
    some = catalog(tmp_path, table, entry("image", "c.png", is_file=True), DERIVED)

    fox, hare = jobs_of(con, some)

    assert [row.number for row in fox.rows] == [0, 1]
    assert [row.number for row in hare.rows] == [2, 3]
    file = fox.files["image"]
    assert (file.path, file.size, file.suffix) == (str(tmp_path / "a.png"), 3, ".png")
    assert fox.values["image"] == file.sha256


def test_a_file_behind_a_uri_is_fetched_where_the_caller_says(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    fsspec.filesystem("memory").pipe_file("/foxes/a.png", b"fox")
    table = pa.table({"image": ["memory://foxes/a.png"]})
    some = catalog(tmp_path, table, entry("image", is_file=True))

    plan_jobs(con, some, batch="monday", fetched=tmp_path / "fetched")
    [job] = stream_jobs(con, some, "planned")

    path = Path(job.files["image"].path)
    assert path.parent == tmp_path / "fetched"
    assert path.read_bytes() == b"fox"


@pytest.mark.parametrize("path", ["../secret.png", "/etc/passwd", "gone.png", "file:///etc/passwd"])
def test_a_file_that_is_missing_or_outside_ends_the_plan(
    tmp_path: Path, con: duckdb.DuckDBPyConnection, path: str
) -> None:
    folder = tmp_path / "catalog"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    some = catalog(folder, pa.table({"image": [path]}), entry("image", is_file=True))

    with pytest.raises(BadInput, match=path):
        plan_jobs(con, some, batch="monday")


def test_rows_may_come_from_a_query_beside_the_catalog(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    some = catalog(tmp_path, pa.table({"text": ["b", "a", "c"]}), entry("prompt"))
    sql = "SELECT text AS prompt FROM 'prompts.parquet' WHERE text < 'c' ORDER BY text; -- done"

    jobs = jobs_of(con, replace(some, prompts=Prompts(sql=sql)))

    assert [job.values["prompt"] for job in jobs] == ["a", "b"]
