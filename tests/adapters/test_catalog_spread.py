"""A few rows that stand for all: spread evenly, of every kind, the same jobs as in the whole."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.catalog import Catalog, catalog_digest, load_catalog, plan_jobs, spread
from nightkiln.catalog.spread import picks, shares, strides
from nightkiln.core.errors import BadInput
from nightkiln.testing.samples import INPUTS, write_catalog

SIZES = st.lists(st.integers(1, 1000), min_size=1, max_size=20)


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def foxes(folder: Path, rows: int) -> Catalog:
    return load_catalog(write_catalog(folder / "foxes", rows))


@st.composite
def size_and_count(draw: st.DrawFn) -> tuple[int, int]:
    size = draw(st.integers(1, 10**9))
    return size, draw(st.integers(1, min(size, 200)))


@given(size_and_count())
def test_strides_are_distinct_in_range_and_reach_from_the_first_to_the_last(
    case: tuple[int, int],
) -> None:
    size, count = case

    taken = strides(size, count)

    assert len(set(taken)) == count
    assert taken == sorted(taken)
    assert count == 1 or (taken[0], taken[-1]) == (0, size - 1)


@given(size_and_count())
def test_no_two_strides_differ_by_more_than_a_row(case: tuple[int, int]) -> None:
    taken = strides(*case)

    steps = {after - before for before, after in pairwise(taken)}

    assert not steps or max(steps) - min(steps) <= 1


@given(SIZES, st.data())
def test_every_kind_has_its_share_and_none_more_than_it_has(
    sizes: list[int], data: st.DataObject
) -> None:
    count = data.draw(st.integers(len(sizes), sum(sizes)))

    places = shares(sizes, count)

    assert sum(places) == count
    assert all(1 <= each <= size for each, size in zip(places, sizes, strict=True))


@given(SIZES, st.data())
def test_picks_are_distinct_in_range_and_of_as_many_kinds_as_can_be(
    sizes: list[int], data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, sum(sizes)))

    taken = picks(sizes, count)

    kinds = [kind for kind, size in enumerate(sizes) for _ in range(size)]
    assert taken == sorted(set(taken))
    assert len(taken) == count
    assert taken[-1] < len(kinds)
    if count >= len(sizes):
        assert {kinds[at] for at in taken} == set(range(len(sizes)))


def test_rows_of_one_kind_are_taken_at_even_distances(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    assert spread(con, foxes(tmp_path, 100), 4) == (0, 33, 66, 99)


def test_the_only_row_of_a_checkpoint_is_among_them(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    rows = [{"prompt": f"fox {n}", "steps": 30 if n == 41 else 4} for n in range(100)]
    inputs = {**INPUTS, "steps": "KSampler.steps"}
    catalog = load_catalog(write_catalog(tmp_path / "foxes", rows, inputs=inputs))

    taken = spread(con, catalog, 4)

    assert 41 in taken
    assert taken == spread(con, catalog, 4), "the same ones each time"


def test_the_limit_counts_before_the_spread(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    assert spread(con, foxes(tmp_path, 100).with_limit(10), 2) == (0, 9)


def test_more_rows_than_there_are_is_an_error_that_says_how_many(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="at most --rows 3"):
        spread(con, foxes(tmp_path, 3), 4)


def test_chosen_rows_are_the_jobs_that_they_are_in_the_whole_catalog(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    whole = foxes(tmp_path, 20)
    plan_jobs(con, whole, batch="night")
    ids = dict(con.execute("SELECT row, job_id FROM planned").fetchall())

    planned = plan_jobs(con, whole.with_rows((3, 19)), batch="trial")

    chosen = dict(con.execute("SELECT row, job_id FROM planned").fetchall())
    assert planned.jobs == 2
    assert chosen == {3: ids[3], 19: ids[19]}


def test_a_choice_of_rows_is_another_selection(tmp_path: Path) -> None:
    whole = foxes(tmp_path, 5)

    digests = {catalog_digest(one) for one in (whole, whole.with_rows((1,)), whole.with_rows((2,)))}

    assert len(digests) == 3
