"""The page about parameters says what the forms ask for."""

from __future__ import annotations

from tasks.parameter_tables import page
from tests.docs.shown import ROOT

PAGE = ROOT / "docs" / "reference" / "parameters.md"


def test_the_page_says_of_every_field_what_the_form_says() -> None:
    how = "python -m tasks.parameter_tables > docs/reference/parameters.md"

    assert PAGE.read_text() == page(), f"make it anew: {how}"
