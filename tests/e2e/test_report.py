"""The page that a night leaves, and that strangers' words on it stay words."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from nightkiln.observers import Several
from nightkiln.report import CELL_CHARS_MAX, Report, cell, report_of
from nightkiln.settings import Settings
from nightkiln.store.store import Store
from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.samples import write_catalog
from nightkiln.wiring import Request, chosen_catalog, run_batch


async def reported(folder: Path, *workers: StandIn) -> Report:
    """The report on a night of three jobs."""
    catalog = chosen_catalog(write_catalog(folder / "catalog", 3))
    urls = tuple(server.url for server in workers)
    settings = Settings(store=str(folder / "store"), worker_urls=urls)
    outcome = await run_batch(Request(catalog, name="night"), settings, Several(()))
    return report_of(Store.open(settings.store), outcome)


async def test_the_page_tells_counts_machines_cost_and_where_to_ask(tmp_path: Path) -> None:
    async with StandIn(gpu_name="Tiny 9000") as server:
        report = await reported(tmp_path, server)

    assert report.failures == []
    lines = report.page.splitlines()
    assert lines[0] == "# night"
    assert "| done | 3 |" in lines
    assert "| cost of all runs | 0.00 USD |" in lines
    [machine] = [line for line in lines if "Tiny 9000" in line]
    assert machine.split(" | ")[3:5] == ["3", "0"]
    assert f"Images: `{tmp_path / 'store'}/images/night`" in lines


async def test_the_query_on_the_page_answers(tmp_path: Path) -> None:
    async with StandIn() as server:
        report = await reported(tmp_path, server)

    sql = report.page.partition("```sql\n")[2].partition("```")[0]
    with Store.open(str(tmp_path / "store")).connect() as con:
        [(status, jobs, _, usd)] = con.execute(sql).fetchall()
    assert (status, jobs, usd) == ("done", 3, 0)


async def test_failures_are_counted_by_reason(tmp_path: Path) -> None:
    async with StandIn(faults=("error",)) as server:
        report = await reported(tmp_path, server)

    [reason] = report.failures
    assert (reason["fault"], reason["jobs"]) == ("unknown", 3)
    assert str(reason["example"]).startswith("sample prompt")


@given(st.text())
def test_a_cell_is_one_bounded_line_whose_marks_mean_nothing(text: str) -> None:
    shown = cell(text)

    assert len(shown.splitlines()) <= 1
    assert len(shown) <= 2 * CELL_CHARS_MAX
    assert "|" not in shown.replace("\\\\", "").replace("\\|", "")
