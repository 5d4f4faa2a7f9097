"""A settled job survives the way into Parquet, and into a journal line and back."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.core.model import (
    Attempt,
    CatalogRow,
    Fault,
    InputFile,
    Job,
    Output,
    OutputFacts,
    Settled,
)
from nightkiln.store.rows import (
    ERROR_CHARS_MAX,
    SEED_MAX,
    check_parallel,
    json_text,
    parquet_bytes,
    rows_table,
)
from nightkiln.store.settled_json import settled_from_json, settled_to_json
from nightkiln.testing.settled import BATCH, done, failed

_SECONDS = st.floats(0, 4e9)
_WORDS = st.text(max_size=8)
_VALUES = st.one_of(_WORDS, st.integers(), st.floats(allow_nan=False), st.booleans())
_SETTLED = st.builds(
    Settled,
    job=st.builds(
        Job,
        id=_WORDS,
        values=st.dictionaries(_WORDS, _VALUES, max_size=3),
        files=st.dictionaries(_WORDS, st.builds(InputFile), max_size=2),
        rows=st.lists(
            st.builds(CatalogRow, columns=st.dictionaries(_WORDS, _VALUES, max_size=2)), max_size=2
        ).map(tuple),
    ),
    status=st.sampled_from(["done", "failed", "reused"]),
    outputs=st.lists(st.builds(Output, facts=st.builds(OutputFacts)), max_size=2).map(tuple),
    attempts=st.lists(
        st.builds(Attempt, started_s=_SECONDS, finished_s=_SECONDS, gpu_s=_SECONDS), max_size=2
    ).map(tuple),
    fault=st.none() | st.sampled_from(Fault),
    error=st.none() | _WORDS,
    queued_s=_SECONDS,
    finished_s=_SECONDS,
    download_s=_SECONDS,
    usd_marginal=st.decimals(0, 100, places=6),
)


def stored(*settled: Settled) -> list[dict[str, Any]]:
    """The rows as a table holds them."""
    rows: list[dict[str, Any]] = rows_table(settled, BATCH, "results/shard").to_pylist()
    return rows


@given(_SETTLED)
def test_a_settled_job_comes_back_from_json_as_it_was(settled: Settled) -> None:
    assert settled_from_json(json.loads(json.dumps(settled_to_json(settled)))) == settled


def test_a_row_says_what_was_made_of_what_where_and_when() -> None:
    [row] = stored(done(7))

    assert row["prompt"] == "a fox, number 7"
    assert json.loads(row["params"]) == {"prompt": "a fox, number 7", "seed": 7, "steps": 20}
    assert json.loads(row["columns"]) == {"category": "Animals", "challenge": 7}
    assert (row["row"], row["rows"], row["more_columns"]) == (7, [7], [])
    assert (row["width"], row["height"], row["seed"]) == (64, 48, 7)
    assert (row["provider"], row["gpu"], row["host"]) == ("local", "RTX 4090", "kiln.example")
    assert (row["queue_s"], row["gpu_seconds"], row["download_s"]) == (6.0, 2.0, 0.25)
    assert row["usd_marginal"] == Decimal("0.000100")
    assert row["finished_at"] == dt.datetime(2026, 2, 2, 2, 40)  # noqa: DTZ001 - as tables hold it
    assert row["commit_key"] == "results/shard"
    assert row["out_uri"] == [done(7).outputs[0].uri]


def test_a_failed_job_keeps_its_fault_its_error_and_its_attempts() -> None:
    [row] = stored(failed(7))

    assert (row["status"], row["fault"], row["error"]) == ("failed", "job", "the graph was refused")
    assert row["att_fault"] == ["job"]
    assert (row["out_uri"], row["width"]) == ([], None)


def test_a_row_names_the_attempt_that_made_the_outputs_not_the_last() -> None:
    settled = done(1)
    made = settled.attempts[0]
    late = replace(made, host="late.example", status="cancelled")

    [row] = stored(replace(settled, attempts=(made, late)))

    assert (row["host"], row["attempt_count"]) == ("kiln.example", 2)
    assert row["att_host"] == ["kiln.example", "late.example"]


@pytest.mark.parametrize(
    ("value", "seed"),
    [(0, 0), (SEED_MAX, SEED_MAX), (-1, None), (2**64, None), ("7", None), (True, None)],
)
def test_a_seed_is_a_number_up_to_the_largest_that_comfyui_takes(
    value: int | str, seed: int | None
) -> None:
    settled = done(1)
    job = replace(settled.job, values={"seed": value})

    [row] = stored(replace(settled, job=job))

    assert row["seed"] == seed
    assert json.loads(row["params"]) == {"seed": value}


def test_the_largest_seed_is_exact_in_duckdb(tmp_path: Path) -> None:
    job = replace(done(1).job, values={"seed": SEED_MAX})
    table = rows_table([replace(done(1), job=job)], BATCH, "key")
    (tmp_path / "x.parquet").write_bytes(parquet_bytes(table))

    with duckdb.connect() as con:
        asked = "select seed, params ->> '/seed' from read_parquet(?)"
        found = con.execute(asked, [str(tmp_path / "x.parquet")]).fetchall()

    assert found == [(SEED_MAX, str(SEED_MAX))]


def test_what_strangers_write_is_bounded_and_made_storable() -> None:
    settled = replace(failed(1), error="\ud800\0" + "x" * 10_000)

    [row] = stored(settled)

    assert len(row["error"]) == ERROR_CHARS_MAX
    assert row["error"].startswith("?\N{REPLACEMENT CHARACTER}xxx")
    assert row["error"].endswith("x…")


def test_numbers_that_json_lacks_become_null() -> None:
    columns = {"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": float("-inf")}}

    assert json.loads(json_text(columns)) == {"a": None, "b": [None, 1.5], "c": {"d": None}}


def test_lists_of_different_lengths_are_refused() -> None:
    table = rows_table([done(1)], BATCH, "key")
    position = table.column_names.index("out_uri")
    broken = table.set_column(position, table.schema.field(position), [[["one", "two"]]])

    with pytest.raises(AssertionError, match=r"out_\* lists differ"):
        check_parallel(broken)


def test_a_job_is_in_a_shard_once() -> None:
    with pytest.raises(AssertionError, match="twice"):
        rows_table([done(1), failed(1)], BATCH, "key")


@given(numbers=st.sets(st.integers(0, 20), max_size=5))
def test_the_same_jobs_give_the_same_bytes(numbers: set[int]) -> None:
    settled = [done(number) for number in sorted(numbers)]

    assert parquet_bytes(rows_table(settled, BATCH, "k")) == parquet_bytes(
        rows_table(settled, BATCH, "k")
    )
