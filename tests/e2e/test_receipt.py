"""The receipt of a batch: what came of it, and that strangers' words on it stay words."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.core.errors import BadInput
from nightkiln.core.model import Fault
from nightkiln.gate import unquoted
from nightkiln.markdown import CELL_CHARS_MAX, cell, code
from nightkiln.observers import Several
from nightkiln.receipt import Receipt, receipt_of
from nightkiln.receipt_page import page
from nightkiln.settings import Settings
from nightkiln.store.store import Store
from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.priced import PricedWorkers
from nightkiln.testing.samples import write_catalog
from nightkiln.wiring import Request, chosen_catalog, run_batch

UNESCAPED = re.compile(r"(?<!\\)(?:\\\\)*[`*_\[\]<>|~]")


async def received(folder: Path, *workers: StandIn, jobs: int = 3, bills: bool = False) -> Receipt:
    """The receipt of a night."""
    catalog = chosen_catalog(write_catalog(folder / "catalog", jobs))
    urls = tuple(server.url for server in workers)
    settings = Settings(store=str(folder / "store"), worker_urls=urls, budget=Decimal(5))
    priced = {"cloud": PricedWorkers(urls)} if bills else None
    request = Request(catalog, name="night")
    await run_batch(request, settings, Several(()), rents_from=priced, gate=unquoted)
    return receipt_of(Store.open(settings.store), "night")


async def test_a_receipt_tells_jobs_machines_and_where_to_ask(tmp_path: Path) -> None:
    async with StandIn(gpu_name="Tiny 9000") as server:
        receipt = await received(tmp_path, server)

    assert (receipt.jobs, receipt.done, receipt.failed, receipt.left) == (3, 3, 0, 0)
    [paid], [run] = receipt.paid, receipt.runs
    assert (paid.provider, paid.leases, paid.jobs, paid.usd) == ("local", 1, 3, Decimal(0))
    assert (run.epoch, run.exit_code, run.budget_usd) == (1, 0, Decimal(5))
    assert run.is_in_time is None
    lines = page(receipt).splitlines()
    assert lines[0] == "# night"
    assert lines[2] == "**3 of 3 jobs done, for 0.00 USD**"
    assert f"Images: `{tmp_path / 'store'}/images/night`." in page(receipt)


async def test_what_was_paid_for_adds_up_to_what_was_paid(tmp_path: Path) -> None:
    faults = ("error@2",)
    async with StandIn(render_s=0.05, faults=faults) as one, StandIn(faults=faults) as two:
        receipt = await received(tmp_path, one, two, jobs=12, bills=True)

    [paid] = receipt.paid
    assert paid.usd > 0
    assert sum(paid.uses.values()) == pytest.approx(paid.usd, abs=Decimal("0.000001"))
    assert receipt.usd == paid.usd == sum(run.usd for run in receipt.runs)
    assert 0 < receipt.waste_usd < receipt.usd
    [why] = receipt.reasons
    assert why.jobs_failed == 0
    assert why.jobs_done_elsewhere == why.tries > 0
    said = page(receipt)
    assert "| USD for | cloud |" in said
    assert "| budget | 5.00 USD |" in said
    assert f"| 0 | {why.tries} | {why.tries} | unknown | " in said


async def test_failures_are_told_by_reason_with_an_example(tmp_path: Path) -> None:
    async with StandIn(faults=("error",)) as server:
        receipt = await received(tmp_path, server)

    [reason] = receipt.reasons
    assert (reason.fault, reason.jobs_failed) == (Fault.UNKNOWN, 3)
    assert str(reason.example_prompt).startswith("sample prompt")
    assert receipt.failed == 3


async def test_every_question_on_the_page_is_answered(tmp_path: Path) -> None:
    async with StandIn(render_s=0.05) as server:
        receipt = await received(tmp_path, server)

    asks = page(receipt).partition("```sql\n")[2].partition("```")[0].split(";")[:-1]
    with Store.open(receipt.store).connect() as con:
        answers = [con.execute(ask).fetchall() for ask in asks]
    assert answers[0] == [("done", None, 3, 0)]
    assert answers[1] == []
    assert [host for host, *_ in answers[2]] == [server.url.removeprefix("http://")]
    assert answers[3]


async def test_a_batch_that_never_began_has_no_receipt(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"), create=True)

    with pytest.raises(BadInput, match="night: no run of it has begun"):
        receipt_of(store, "night")


@given(st.text())
def test_a_cell_is_one_bounded_line_whose_marks_mean_nothing(text: str) -> None:
    shown = cell(text)

    assert shown.isprintable()
    assert len(shown) <= 2 * CELL_CHARS_MAX
    assert UNESCAPED.search(shown.replace("\\\\", "")) is None
    assert "://" not in shown


@given(st.text("`a\n", max_size=20))
def test_a_block_ends_where_it_ends_whatever_is_in_it(text: str) -> None:
    first, *inside, last = code(text).splitlines()

    assert first == last
    assert first not in inside
