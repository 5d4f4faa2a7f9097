"""Answers on a screen: whole, whatever is in them and however narrow it is."""

from __future__ import annotations

import io

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from nightkiln.cli.printing import RECORDS_SHOWN_MAX, print_table

ESCAPE = "\x1b]0;owned\x07\x1b[2J"


def printed(sql: str, *values: object, width: int = 80) -> str:
    screen = io.StringIO()
    with duckdb.connect() as con:
        answer = con.execute(sql, list(values))
        names = [name for name, *_ in answer.description or ()]
        print_table(names, answer, Console(file=screen, width=width), for_all="--csv")
    return screen.getvalue()


def test_an_answer_that_fits_is_a_table() -> None:
    said = printed("select 'done' as status, 24 as jobs")

    assert "status" in said.splitlines()[1]
    assert "jobs" in said.splitlines()[1]


def test_of_an_answer_that_is_too_wide_nothing_is_cut_and_every_column_has_a_line() -> None:
    names = [f"a_rather_long_name_{number}" for number in range(12)]
    columns = ", ".join(f"'value-of-{name}' as {name}" for name in names)

    said = printed(f"select {columns} from range(2)")  # noqa: S608 - names of ours

    assert "\u2026" not in said
    assert said.count("row ") == 2
    for name in names:
        assert sum(f"{name} " in line for line in said.splitlines()) == 2
        assert said.count(f"value-of-{name}\n") + said.count(f"value-of-{name} ") == 2


def test_a_long_list_of_wide_rows_ends_and_says_how_to_get_the_others() -> None:
    said = printed("select ? as long from range(?)", "x" * 100, RECORDS_SHOWN_MAX + 1)

    assert said.count("row ") == RECORDS_SHOWN_MAX
    assert said.endswith(f"the first {RECORDS_SHOWN_MAX} rows; --csv\n")


def test_of_an_empty_answer_that_is_too_wide_the_columns_are_named() -> None:
    said = printed("select 1 as one, 2 as another where false", width=10)

    assert "no rows" in said
    assert "another" in said


@pytest.mark.parametrize("width", [24, 80])
def test_nothing_in_a_prompt_is_markup_or_commands_the_terminal(width: int) -> None:
    said = printed("select ? as prompt", f"[/x] [red]kiln[/red] {ESCAPE}", width=width)

    assert "\x1b" not in said
    assert "\x07" not in said
    flat = "".join(letter for letter in said if letter not in " \n\u2502\u2503")
    assert "[/x]" in flat
    assert "[red]kiln[/red]" in flat


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40))
def test_any_text_can_be_shown(text: str) -> None:
    said = printed("select ? as prompt", text)

    assert all(letter.isprintable() or letter == "\n" for letter in said)
