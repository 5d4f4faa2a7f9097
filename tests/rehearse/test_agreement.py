"""A quote says what the exact rehearsal says; measured, not part of every test run."""

from __future__ import annotations

import pytest

from nightkiln.rehearse import Stage
from tests.benchmarks.agreement import agreement


@pytest.mark.bench
def test_a_quote_of_10_000_jobs_agrees_with_playing_each_by_itself() -> None:
    with Stage() as stage:
        figures = list(agreement(stage, 2, range(8)))

    assert {figure.name: figure.value for figure in figures if not figure.holds} == {}
