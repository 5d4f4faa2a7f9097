"""Quotes and rehearsals as flows: what they leave to look at, and that they rent nothing."""

from __future__ import annotations

import importlib
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from nightkiln.testing.samples import write_catalog
from tests.flows.test_flows import artifacts, run_of

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


async def ran(kind: str, form: str, tmp_path: Path, **given: Any) -> Any:
    """Final state of a flow run on a catalog of a dozen prompts."""
    params = getattr(importlib.import_module("tasks.params"), form)
    flow = getattr(importlib.import_module(f"flows.{kind}"), kind)
    folder = write_catalog(tmp_path / "catalog", 12)
    asked = params(catalog=folder, store=str(tmp_path / "store"), **given)
    return await flow(asked, return_state=True)


async def test_a_quote_is_left_as_a_page_with_its_chart(tmp_path: Path) -> None:
    state = await ran("quote", "QuoteParams", tmp_path, by="2h", budget=4)

    assert state.is_completed(), state.message
    assert "it fits: budget and deadline hold on nine nights out of ten" in state.message
    page = (await artifacts(state))["nightkiln-quote"].data
    assert page.startswith("# 12 jobs within 2h00m for 4 USD")
    assert "| **cost** | p50 0." in page
    chart = page.partition("data:image/svg+xml;base64,")[2].partition(")")[0]
    assert "Cost of a night, USD" in b64decode(chart).decode()
    run = await run_of(state)
    assert run.name.startswith("quote catalog 20")
    assert run.name.endswith(" by 2h <= $4")
    assert "catalog:sample" in run.tags
    assert not (tmp_path / "store").exists()


async def test_a_rehearsal_is_left_as_a_page_with_its_numbers(tmp_path: Path) -> None:
    state = await ran("rehearse", "RehearseParams", tmp_path, by="2h", budget=4, nights=2)

    assert state.is_completed(), state.message
    assert "deadline met on 100.0% of 2 nights" in state.message
    page = (await artifacts(state))["nightkiln-rehearsal"].data
    assert "| a night | p10 | p50 | p90 |" in page
    assert "| cost, USD | 0." in page
    assert "data:image/svg+xml;base64," in page
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("kind", "form"), [("quote", "QuoteParams"), ("rehearse", "RehearseParams")]
)
async def test_a_question_without_a_budget_is_no_question(
    kind: str, form: str, tmp_path: Path
) -> None:
    state = await ran(kind, form, tmp_path, by="2h")

    assert state.is_failed()
    assert "nothing says how much may be spent" in state.message
