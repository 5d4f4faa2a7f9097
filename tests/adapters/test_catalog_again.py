"""New seeds for chosen jobs: by column what ``core.plan`` says row by row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nightkiln.catalog import load_catalog, plan_jobs, reseed_jobs, scratch, stream_jobs
from nightkiln.catalog.catalog import Catalog
from nightkiln.catalog.columns import recipe_of
from nightkiln.catalog.rows import load_rows
from nightkiln.cli.retry import job_ids_in
from nightkiln.core.errors import BadInput
from nightkiln.core.model import JobId
from nightkiln.core.plan import job_id, reseeded, row_values
from nightkiln.retrying import reseed_name
from nightkiln.testing.samples import write_catalog

BATCH = "night"
ID, OTHER_ID = "a" * 64, "b" * 64

rows = st.fixed_dictionaries(
    {
        "prompt": st.text("abc '\"%\n", min_size=1, max_size=6),
        "negative": st.none() | st.sampled_from(["", "blurry"]),
        "seed": st.none() | st.integers(0, 2**40),
    }
)


def planned(con: duckdb.DuckDBPyConnection) -> list[tuple[str, int, int, int, str | None]]:
    return con.execute(
        "SELECT job_id, row, variant, seed, replaces FROM planned ORDER BY row, variant"
    ).fetchall()


def twins(
    con: duckdb.DuckDBPyConnection,
    catalog: Catalog,
    row: Mapping[str, Any],
    variant: int,
    times: int,
) -> list[tuple[JobId, int]]:
    """Id and seed of the job that a row means, and of those that replace it one after another."""
    recipe = recipe_of(con, catalog, load_rows(con, catalog), batch=BATCH)
    values = row_values(recipe, row, variant=variant)
    found = [(job_id(recipe, values), int(values["seed"]))]
    for _ in range(times):
        values = {**values, "seed": reseeded(found[-1][0])}
        found.append((job_id(recipe, values), int(values["seed"])))
    return found


@settings(max_examples=12, deadline=None)
@given(given_rows=st.lists(rows, min_size=1, max_size=4), times=st.integers(1, 3), data=st.data())
def test_new_seeds_by_column_are_those_row_by_row_however_often(
    given_rows: list[dict[str, Any]], times: int, data: st.DataObject
) -> None:
    with TemporaryDirectory() as folder, scratch() as con:
        # One row more, so that every column has its type.
        table = [*given_rows, {"prompt": "x", "negative": "y", "seed": 1}]
        catalog = load_catalog(write_catalog(Path(folder), table, variants={"seeds": 2}))
        plan_jobs(con, catalog, batch=BATCH)
        row = data.draw(st.integers(0, len(given_rows) - 1))
        variant = data.draw(st.integers(0, 1))
        chain = twins(con, catalog, table[row], variant, times)
        (chosen, _), (last, seed) = chain[-2:]
        earlier = [job for job, _ in chain[:-2]]

        found = reseed_jobs(con, catalog, batch=BATCH, chosen=[chosen], earlier=earlier)
        lines = planned(con)
        jobs = list(stream_jobs(con, catalog, "planned"))

    assert found.jobs == 1
    assert {(line[0], line[3], line[4]) for line in lines} == {(last, seed, chosen)}
    assert (row, variant) in {(line[1], line[2]) for line in lines}
    assert [(job.id, job.values["seed"]) for job in jobs] == [(last, seed)]
    assert jobs[0].rows[0].columns["nightkiln_replaces"] == chosen


def test_what_the_catalog_does_not_ask_for_is_left_out(tmp_path: Path) -> None:
    catalog = load_catalog(write_catalog(tmp_path, 3))
    with scratch() as con:
        plan_jobs(con, catalog, batch=BATCH)

        found = reseed_jobs(con, catalog, batch=BATCH, chosen=[ID], earlier=[OTHER_ID])

    assert (found.rows, found.jobs) == (3, 0)


def test_without_a_seed_there_is_nothing_to_change(tmp_path: Path) -> None:
    inputs = {"prompt": "Positive Prompt.text"}
    catalog = load_catalog(write_catalog(tmp_path, 1, inputs=inputs))
    with scratch() as con:
        plan_jobs(con, catalog, batch=BATCH)

        with pytest.raises(BadInput, match="no seed"):
            reseed_jobs(con, catalog, batch=BATCH, chosen=[ID], earlier=[])


@pytest.mark.parametrize(
    "text",
    [
        f"{ID}\n{OTHER_ID}\n",
        f'prompt,job_id\n"a, b",{ID}\nc,{OTHER_ID}\n',
        f'{{"job_id": "{ID}", "mark": 1}}\n{{"job_id": "{OTHER_ID}"}}\n',
        f'[{{"job_id": "{ID}"}}, {{"job_id": "{OTHER_ID}"}}]',
        f'["{ID}", "{OTHER_ID}"]',
        f'{{"batch": "night", "marks": [{{"job_id": "{ID}"}}, {{"job_id": "{OTHER_ID}"}}]}}',
    ],
)
def test_a_list_of_jobs_may_be_written_in_several_ways(text: str) -> None:
    assert set(job_ids_in(text)) == {ID, OTHER_ID}


@given(st.text())
@example("[" * 100_000)
@example(f'{{"a":{"[" * 100_000}\n')
def test_no_text_is_too_odd_to_be_looked_at_for_jobs(text: str) -> None:
    list(job_ids_in(text))


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", fullmatch=True))
def test_a_batch_of_new_seeds_has_a_name_of_one_ending(batch: str) -> None:
    once = reseed_name(batch, frozenset({ID}))
    twice = reseed_name(once, frozenset({OTHER_ID}))

    assert len(twice) <= 100
    assert twice.count("-reseed-") == once.count("-reseed-")
    assert once != twice
