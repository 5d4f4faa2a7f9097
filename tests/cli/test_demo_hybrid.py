"""``nightkiln demo --night hybrid`` as people and programs call it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nightkiln import cli
from nightkiln.cli.demo_hybrid import JOBS
from nightkiln.core.errors import BadInput
from nightkiln.places import MODAL, VAST

DEMO_S_MAX = 200.0


def test_the_hybrid_night_has_no_short_form() -> None:
    result = CliRunner().invoke(cli.app, ["demo", "--night", "hybrid", "--quick"])

    assert isinstance(result.exception, BadInput)
    assert "leave --quick out" in str(result.exception)


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
