"""``nightkiln demo --night market`` as people and programs call it."""

from __future__ import annotations

import asyncio
import io
import json
import time
from decimal import Decimal
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from nightkiln import cli
from nightkiln.cli.demo_market import COLUMNS, market_demo, told
from nightkiln.core.errors import BadInput
from nightkiln.core.model import Kind
from nightkiln.disk import OsDisk
from nightkiln.market_night import BUDGET_USD, JOBS, Watched, play, quote
from nightkiln.market_receipt import Receipt, receipt_of
from nightkiln.observers import JsonLines
from nightkiln.store.store import Store
from nightkiln.testing import hurried_time, virtual_time

CENT = 0.01
MILLIONTH = 1e-6  # of a dollar
FASTER = 1500.0  # x: the hour in some seconds; what the disk takes then counts for more


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("market") / "store")


@pytest.fixture(scope="module")
def watched(store: str) -> Watched:
    """The demo's night, by a clock that does not wait: always the same one."""
    return virtual_time.run(play(store, JsonLines(io.StringIO()), expected=quote()))


@pytest.fixture(scope="module")
def receipt(watched: Watched, store: str) -> Receipt:
    return receipt_of(watched, Store.open(store, disk=OsDisk()))


@pytest.mark.nights
def test_the_night_shows_what_it_promises(receipt: Receipt) -> None:
    machines = [one for one in receipt.rented if one.kind is not Kind.SERVERLESS]
    [fallback] = [one for one in receipt.rented if one.kind is Kind.SERVERLESS]

    assert sum(one.failed_starts for one in machines) > 0, "starts fail"
    assert sum(one.lost for one in machines) > 0, "machines are taken away"
    assert {"failed", "lost"} <= {one.how for one in receipt.tries}
    assert any("output rejected" in one.error for one in receipt.tries), "an image is damaged"
    assert receipt.jobs_retried > 0
    assert fallback.jobs > 0
    assert all(one.why for one in receipt.fell_back)


@pytest.mark.nights
def test_every_job_is_settled_and_most_have_their_image(receipt: Receipt, store: str) -> None:
    assert receipt.jobs_left == 0
    assert receipt.jobs_done + receipt.jobs_failed == JOBS
    assert receipt.jobs_done >= JOBS - 2
    images = list(Path(store, "images", receipt.batch).rglob("*.png"))
    assert len(images) == receipt.jobs_done


@pytest.mark.nights
def test_what_was_billed_is_in_the_ledger_and_under_the_budget(receipt: Receipt) -> None:
    assert 0 < receipt.billed_usd <= receipt.ledger_usd <= BUDGET_USD
    assert receipt.is_within_budget


@pytest.mark.nights
def test_the_parts_of_a_receipt_add_up(receipt: Receipt) -> None:
    parted_usd = sum((one.usd for one in receipt.rented), Decimal(0))
    assert float(parted_usd) == pytest.approx(float(receipt.billed_usd), abs=MILLIONTH)
    assert sum(one.jobs for one in receipt.rented) == receipt.jobs_done
    assert sum(one.jobs for one in receipt.fell_back) == next(
        one.jobs for one in receipt.rented if one.kind is Kind.SERVERLESS
    )
    assert all(usd >= -CENT for usd in receipt.waste_usd.values())
    assert 0 < receipt.waste_fraction < 1


@pytest.mark.nights
def test_the_night_is_held_against_its_quote(receipt: Receipt, store: str) -> None:
    said = receipt.quoted
    assert said is not None
    with Store.open(store, disk=OsDisk()).connect() as con:
        [row] = con.execute(
            "select jobs, usd, finish_s, inside_p90_usd, inside_p90_finish from calibration"
        ).fetchall()

    assert row[0] == said.jobs == JOBS
    assert float(row[1]) == pytest.approx(float(receipt.ledger_usd), abs=CENT)
    assert row[2] == pytest.approx(receipt.finish_s, abs=60.0)
    assert 0 < said.usd_p50 <= said.usd_p90 <= float(BUDGET_USD)
    assert receipt.is_inside_finish == (receipt.finish_s <= said.finish_s_p90)


@pytest.mark.nights
def test_a_receipt_fits_a_screen_of_100_columns(receipt: Receipt) -> None:
    file = io.StringIO()
    console = Console(file=file, width=COLUMNS)

    for part in told(receipt):
        console.print(part)

    lines = file.getvalue().splitlines()
    assert max(len(line) for line in lines) <= COLUMNS
    assert not any("…" in line for line in lines), "nothing is cut off"


@pytest.mark.nights
def test_a_program_is_told_the_same(receipt: Receipt) -> None:
    facts = receipt.facts()

    assert facts["usd_per_job"] == receipt.billed_usd / receipt.jobs_done
    assert facts["fell_back"][0]["why"]
    assert facts["waste_usd"].keys() >= {"startup", "failed_starts", "traffic_in", "idle"}


@pytest.mark.parametrize(
    "as_json",
    [pytest.param(False, marks=pytest.mark.long), pytest.param(True, marks=pytest.mark.nights)],
)
def test_the_night_is_shown_and_ends_with_its_receipt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, as_json: bool
) -> None:
    outcome = market_demo(str(tmp_path / "store"), as_json=as_json, times=FASTER)

    said = capsys.readouterr()
    assert outcome.total == JOBS
    if as_json:
        events = [json.loads(line) for line in said.out.splitlines()]
        assert events[-1]["event"] == "receipt"
        assert events[-1]["batch"] == events[-2]["batch"] == outcome.batch
        assert events[-1]["billed_usd"] > 0
    else:
        assert said.out.startswith("an hour on a simulated market")
        assert f"Receipt of {outcome.batch}" in said.out
        assert "quote    p50 " in said.out
        assert f"quote: {JOBS} jobs within 1h00m for {BUDGET_USD} USD: cost p50 " in said.err
        assert "is starting (market)" in said.err


def test_the_quick_form_is_of_the_other_night() -> None:
    result = CliRunner().invoke(cli.app, ["demo", "--night", "market", "--quick"])

    assert isinstance(result.exception, BadInput)


def test_the_demo_teaches_its_other_night() -> None:
    result = CliRunner().invoke(cli.app, ["demo", "--help"])

    assert "--night" in result.output
    assert "fallback" in result.output


def test_a_hurried_clock_waits_for_a_share_of_the_time() -> None:
    async def sleep() -> float:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await asyncio.sleep(60.0)
        await asyncio.to_thread(json.dumps, {})
        return loop.time() - began_s

    real_s = time.monotonic()
    passed_s = hurried_time.run(sleep(), times=600.0)

    assert passed_s >= 60.0
    assert 0.1 <= time.monotonic() - real_s < 30.0
