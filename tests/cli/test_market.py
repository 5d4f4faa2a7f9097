"""``nightkiln market`` as somebody meets it who has no account."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import create_server

import pytest
from typer.testing import CliRunner
from vastai import VastAI

from nightkiln.cli import app
from nightkiln.core.errors import BadInput
from nightkiln.testing.modal.fault_table import FAULTS as MODAL_FAULTS
from nightkiln.testing.vast_market import FAULTS
from tests.vast_market.driving import QUERY

END_S_MAX = 30.0
POTTER = """
import modal

app = modal.App("potter")

@app.function(serialized=True)
def throw(what):
    return f"a {what}"

app.deploy()
print(modal.Function.from_name("potter", "throw").remote("vase"))
"""


@contextmanager
def started(*options: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "nightkiln", "market", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_what_it_prints_makes_the_real_sdk_use_it_and_the_end_says_what_was_left() -> None:
    with started("--speed", "600", "--bare") as process:
        assert said(process).startswith("# a simulated market: seed 1")
        url = said(process).removeprefix("export NIGHTKILN_VAST_URL=")
        key = said(process).removeprefix("export NIGHTKILN_VAST_API_KEY=")
        assert "/__sim/ledger" in said(process)
        vast = VastAI(api_key=key, server_url=url, retry=1)
        offer, *_ = vast.search_offers(query=dict(QUERY), order="dph_total")
        vast.create_instance(id=offer["id"], image="comfy", disk=40.0, label="nk/main/lease-001")

        process.send_signal(signal.SIGINT)

        assert said(process).startswith("# 1 machines were rented for 0.")
        assert said(process).endswith("never given back: nk/main/lease-001")
        assert process.wait(END_S_MAX) == 0


@pytest.mark.nights
def test_machines_are_there_by_default_and_programs_may_ask_for_lines() -> None:
    with started("--json", "--faults", "default", "--seed", "7") as process:
        hello = json.loads(said(process))
        process.send_signal(signal.SIGTERM)

        assert (hello["event"], hello["seed"]) == ("listening", 7)
        ended = {"event": "ended", "contracts": 0, "usd": 0.0, "still_billed": []}
        assert json.loads(said(process)) == ended
        assert process.wait(END_S_MAX) == 0


@pytest.mark.nights
def test_a_fake_modal_beside_it_runs_what_the_sdk_deploys(tmp_path: Path) -> None:
    (tmp_path / "potter.py").write_text(POTTER)
    with started("--bare", "--with-modal", "--speed", "600") as process:
        said(process)
        exported = [said(process).removeprefix("export ") for _ in range(8)]
        modal = {**os.environ, **dict(one.split("=", 1) for one in exported)}
        assert "/__sim/ledger" in said(process)
        done = subprocess.run(
            [sys.executable, "potter.py"], cwd=tmp_path, env=modal, capture_output=True, check=False
        )
        process.send_signal(signal.SIGINT)

        assert (done.stdout, done.returncode) == (b"a vase\n", 0), done.stderr
        assert said(process) == "# 0 machines were rented for 0.0000 USD"
        assert said(process).startswith("# on Modal 1 calls took ")
        assert process.wait(END_S_MAX) == 0


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_every_fault_of_modal_is_listed_by_name(options: list[str]) -> None:
    listing = ["market", "--with-modal", "--list-faults", *options]

    listed = CliRunner().invoke(app, listing).stdout

    assert all(name in listed for name in MODAL_FAULTS)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_every_fault_is_listed_by_name(options: list[str]) -> None:
    listed = CliRunner().invoke(app, ["market", "--list-faults", *options]).stdout

    assert all(name in listed for name in FAULTS)


def test_a_fault_that_is_not_known_and_a_port_that_is_taken_are_refused() -> None:
    for option in ("--faults", "--modal-faults"):
        unknown = CliRunner().invoke(app, ["market", option, "nonsense"])
        assert isinstance(unknown.exception, BadInput)

    with create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = CliRunner().invoke(app, ["market", "--bare", "--port", port])
    assert isinstance(refused.exception, BadInput)
    assert f"port {port}" in str(refused.exception)
