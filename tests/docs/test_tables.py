"""The reference of the tables is what the views are, column by column, in both directions."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from nightkiln.core.model import LeaseId, Usd
from nightkiln.ports.provider import Charge
from nightkiln.store.charges import write_charge
from nightkiln.store.sql_files import sql_file
from nightkiln.store.store import Store
from nightkiln.store.views import VIEWS
from tests.docs.shown import ROOT, blocks

PAGE = (ROOT / "docs" / "reference" / "tables.md").read_text()
Columns = list[tuple[str, str]]


def described(page: str) -> dict[str, Columns]:
    """Name and type of every column that the page tells, by view."""
    sections = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    found = {}
    for section in sections:
        heading, _, text = section.partition("\n")
        if name := re.fullmatch(r"`(\w+)`", heading):
            found[name[1]] = re.findall(r"^\| `(\w+)` \| ([^|]+) \| [^|]+ \|$", text, re.MULTILINE)
    return found


def shown(store: Store) -> dict[str, Columns]:
    """The same of every view that the store has for people to ask."""
    with store.connect() as con:
        views = con.execute(
            "select view_name from duckdb_views() where not internal and view_name[1] <> '_'"
        ).fetchall()
        return {
            view: [
                (name, kind.lower())
                for name, kind, *_ in con.execute(f"describe {view}").fetchall()
            ]
            for (view,) in views
        }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"), create=True)


def test_a_bucket_is_opened_as_the_views_beside_its_data_say() -> None:
    how_to = sql_file("how_to_s3", views=json.dumps("s3://bucket/prefix/views.sql"))
    shown = [line.removeprefix("--   ") for line in how_to.splitlines() if "--   " in line]

    [block] = [block for block in blocks(PAGE) if block.kind == "python"]

    assert list(block.lines) == shown, "tests/adapters/test_s3_store.py runs what is shown there"
    assert len(shown) == 3, "an import, and two lines"


def test_the_page_tells_every_view_column_by_column_and_nothing_else(store: Store) -> None:
    assert described(PAGE) == shown(store)
    assert set(described(PAGE)) == set(VIEWS)


def test_bills_that_were_read_change_no_column(store: Store) -> None:
    nothing = Usd(0)
    bill = Charge(LeaseId("night-1-lease"), Usd(1), nothing, nothing, nothing)
    write_charge(store.blobs, bill, provider="vast", date="2026-01-31", read_s=1.0)

    assert described(PAGE) == shown(store)


def test_every_column_of_money_or_time_says_its_unit() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|$", PAGE, re.MULTILINE)

    assert [name for name, _, said in rows if "usd" in name and "USD" not in said] == [
        "inside_p90_usd"
    ]
    seconds = {
        name for name, kind, _ in rows if kind == "double" and re.search(r"_s(_p\d\d)?$", name)
    }
    units = [
        name
        for name, _, said in rows
        if name in seconds and not re.search(r"second|median|quoted", said)
    ]
    assert (bool(seconds), units) == (True, [])
