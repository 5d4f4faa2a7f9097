"""The page of figures, written by a program and by people."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.benchmarks.document import BEGIN, END, with_figures
from tests.benchmarks.figure import Figure, at_least, at_most

NOW = datetime(2026, 1, 31, tzinfo=UTC)
PAGE = f"# Mine\n\n{BEGIN}\nstale\n{END}\n\nMine too.\n"


def test_figures_take_the_place_of_the_old_ones_and_nothing_else() -> None:
    lines = [Figure("bare", 123.456, "jobs/s").line(), at_least("share", 0.4, "x", 0.5).line()]

    page = with_figures(PAGE, lines, command="make bench", now=NOW)

    assert page.startswith(f"# Mine\n\n{BEGIN}\n\nMeasured 2026-01-31 with `make bench` on ")
    assert "| `bare` | 123 | jobs/s |  |  |\n| `share` | 0.4 | x | >= 0.5 | **no** |" in page
    assert page.endswith(f"\n\n{END}\n\nMine too.\n")
    assert "stale" not in page


def test_writing_twice_is_writing_once() -> None:
    lines = [at_most("lag", 12, "ms", 50).line()]
    once = with_figures(PAGE, lines, command="make bench", now=NOW)

    assert with_figures(once, lines, command="make bench", now=NOW) == once


def test_a_page_without_markers_is_left_alone() -> None:
    with pytest.raises(ValueError, match="to write between"):
        with_figures("# Mine\n", [], command="make bench", now=NOW)
