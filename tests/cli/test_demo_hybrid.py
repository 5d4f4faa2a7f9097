"""``nightkiln demo --night hybrid`` as people and programs call it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nightkiln import cli
from nightkiln.cli.demo_hybrid import JOBS
from nightkiln.core.errors import BadInput
from nightkiln.night import Outcome
from nightkiln.places import MODAL, VAST
from nightkiln.testing.hybrid.receipt import FellBack, HybridReceipt, Share

DEMO_S_MAX = 200.0


def test_the_hybrid_night_has_no_short_form() -> None:
    result = CliRunner().invoke(cli.app, ["demo", "--night", "hybrid", "--quick"])

    assert isinstance(result.exception, BadInput)
    assert "leave --quick out" in str(result.exception)


OUTCOME = Outcome(
    batch="night",
    epoch=1,
    store="store",
    exit_code=0,
    total=190,
    done=190,
    reused=0,
    failed=0,
    left=0,
    adopted=0,
    outputs=190,
    elapsed_s=71.0,
    stop_reason=None,
    stage_s={},
)
RECEIPT = HybridReceipt(
    outcome=OUTCOME,
    shares=[
        Share(VAST, 4, 0, 129, Decimal("0.0099"), Decimal("0.0099")),
        Share(MODAL, 4, 0, 61, Decimal("0.0541"), Decimal("0.0529")),
    ],
    fell_back=[
        FellBack(0.4, "56 jobs would be late without it", 1, 2, Decimal("0.0026")),
        FellBack(31.0, "2 to 32 jobs would be late without it", 3, 59, Decimal("0.0515")),
    ],
    lost_s=[29.0, 29.5],
    budget=Decimal(2),
    began_s=0.0,
    last_s=67.0,
    deadline_s=70.0,
)


def test_a_receipt_tells_what_happened_before_the_fallback_was_taken() -> None:
    lines = list(RECEIPT.lines())

    assert lines[3:8] == [
        "after 0s    1 slot of modal: 2 jobs, 0.0026 USD",
        "            56 jobs would be late without it",
        "after 29s   2 machines of vast lost",
        "after 31s   3 slots of modal: 59 jobs, 0.0515 USD",
        "            2 to 32 jobs would be late without it",
    ]
    assert max(map(len, lines)) < 80


def test_a_receipt_of_a_night_that_was_stopped_says_nothing_of_its_deadline() -> None:
    stopped = replace(RECEIPT, outcome=replace(OUTCOME, done=23, left=167))

    assert not any(line.startswith("deadline") for line in stopped.lines())
    assert not stopped.is_in_time


@pytest.mark.long
@pytest.mark.timeout_s(DEMO_S_MAX)
def test_the_receipt_of_the_hybrid_night_shows_what_fell_back_and_why(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nightkiln", "demo", "--night", "hybrid", "--json"]

    done = subprocess.run(
        [*command, "--store", str(tmp_path / "store")],
        check=False,
        capture_output=True,
        text=True,
        timeout=DEMO_S_MAX,
        cwd=tmp_path,
    )

    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    [outcome] = [line for line in lines if line["event"] == "outcome"]
    [receipt] = [line for line in lines if line["event"] == "receipt"]
    shares = {share["provider"]: share for share in receipt["shares"]}
    assert outcome["done"] == JOBS
    assert receipt["is_in_time"] is True
    assert 0 < shares[MODAL]["jobs"] < shares[VAST]["jobs"]
    assert sum(each["jobs"] for each in receipt["fell_back"]) == shares[MODAL]["jobs"]
    assert all("late" in each["why"] or "no return" in each["why"] for each in receipt["fell_back"])
