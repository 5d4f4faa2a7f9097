"""The quote as a page, made of what a gate really says."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from nightkiln.observers.sentences import amount
from nightkiln.rehearse import Quote, Rehearsed, Script, play, summary_of
from nightkiln.rehearse.script import with_jobs
from nightkiln.testing.market import shipped_market
from tasks.showing.quote_page import quote_page

MUCH, LITTLE = "50.00", "0.001"


def fields(budget: str) -> Mapping[str, Any]:
    """What the event ``quoted`` carries."""
    script = Script(with_jobs(shipped_market("ordinary"), 30), deadline_s=7200.0)
    quote = Quote(summary_of(script, [Rehearsed(play(script, 1), None)]), Decimal(budget))
    return {"told": "quote: 30 jobs", **quote.as_object()}


def test_the_page_says_what_it_will_cost_when_it_is_done_and_whether_that_fits() -> None:
    said = fields(MUCH)

    page = quote_page(said)

    assert page.startswith("**It fits the budget.**\n\n|  | p10 | p50 | p90 |")
    spread = " | ".join(amount(said[share]) for share in ("usd_p10", "usd_p50", "usd_p90"))
    assert f"| USD | {spread} |" in page
    assert "| jobs to do | 30 |" in page
    assert "| budget | 50.00 USD |" in page
    assert "| nights that make the deadline | 100% |" in page
    assert "> quote: 30 jobs" in page


def test_what_does_not_hold_is_said_first() -> None:
    page = quote_page(fields(LITTLE))
    late = quote_page({**fields(MUCH), "fits": False, "deadline_met_fraction": 0.75})

    assert page.startswith("**It does not fit:** its p90 of ")
    assert "is above the budget of 0.0010; the deadline was met on 100%" in page
    assert late.startswith("**It does not fit:** the deadline was met on 75% of the nights played.")


def test_a_name_out_of_a_file_of_ones_own_is_no_markup() -> None:
    page = quote_page({**fields(MUCH), "market": "a | <b>", "told": "``` out of the block"})

    assert "a \\| \\<b\\>" in page
    assert "> \\`\\`\\` out of the block" in page
