"""A night on rented machines in a real browser: asked for, approved, watched, and paid.

The machines are the simulated market's; everything else is what a night has.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.shown import ROOT
from tests.ui.control import MARKET_SPEED, Control
from tests.ui.looked import Looked
from tests.ui.timeline import DONE, LOST

pytestmark = [pytest.mark.ui, pytest.mark.long]

SEEDS = 20  # for each of 24 prompts
LEASE = re.compile(r"vast .+ #\d+ \(\d\.\d+/h\)")
DONE_OF_ALL = re.compile(rf"(\d+)/{24 * SEEDS} done")
CAP = 2.5  # USD; half of what was asked for, and ten times what is expected
STOP_S_MAX = 30.0
LOOK_S, LOOKS_MAX = 8.0, 15
BARS_IN_SIGHT = 5  # of leases, beside receipt and gallery; those below are not drawn


@pytest.fixture(scope="module")
def market(control: Control) -> Iterator[str]:
    """The market whose address the Prefect worker knows."""
    command = [sys.executable, "-m", "nightkiln", "market", "--port", control.market_port]
    command += ["--speed", f"{MARKET_SPEED:g}", "--seed", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("# a simulated market")
        try:
            yield control.market_port
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(STOP_S_MAX)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``gallery-wall``: 24 prompts with many seeds, and nothing for a machine to download."""
    folder = tmp_path_factory.mktemp("catalogs") / "gallery-wall"
    shutil.copytree(ROOT / "catalogs" / "smoke", folder)
    shutil.copy(ROOT / "catalogs" / "demo" / "prompts.parquet", folder / "prompts.parquet")
    said = (folder / "catalog.yaml").read_text()
    said = said.replace("name: smoke", "name: gallery-wall")
    (folder / "catalog.yaml").write_text(said.replace("{seeds: 1}", f"{{seeds: {SEEDS}}}"))
    return folder


def progressed(looked: Looked, here: str) -> bool:
    """Whether jobs are done by now, as the artifacts say, which the page asks for once."""
    from playwright.sync_api import TimeoutError as TooLateError

    looked.goes(f"{here}?tab=Artifacts")
    try:
        return looked.counts(DONE_OF_ALL, above=0, within_s=LOOK_S) > 0
    except TooLateError:
        return False


@pytest.mark.usefixtures("market")
def test_a_night_waits_to_be_approved_and_its_fleet_quote_and_receipt_are_seen(
    looked: Looked, control: Control, catalog: Path
) -> None:
    params = {"catalog": str(catalog), "store": str(catalog.parent / "store")}
    money = {"by": "20m", "budget": 2 * CAP, "approve_above_usd": 0.01}
    run = control.run("adhoc", {**params, **money, "providers": ["vast"]})
    here = f"/v2/runs/flow-run/{run}"

    looked.goes(here)
    looked.says("Paused")
    looked.chooses("Resume")
    form = looked.page
    looked.says(re.compile("p90"))
    form.get_by_label(re.compile("Answer")).click()
    form.get_by_role("option", name="approve").click()
    form.get_by_label(re.compile("Cap")).fill(str(CAP))
    looked.keep("approval")
    looked.sends("Resume", "/resume")

    control.goes_on(run)
    assert any(progressed(looked, here) for _ in range(LOOKS_MAX))
    looked.says("nightkiln-fleet")
    looked.bars()
    looked.keep("night-running")
    looked.goes(control.artifact(run, "nightkiln-fleet"))
    looked.says(LEASE)
    looked.keep("fleet")
    state = control.ended(run)

    assert state["type"] == "COMPLETED", state
    leases = {
        one["name"]: one["state"]["name"]
        for one in control.task_runs(run)
        if LEASE.fullmatch(one["name"])
    }
    looked.goes(f"{here}?tab=TaskRuns")
    for lease in leases:
        looked.says(lease)
    drawn = looked.bars()
    assert drawn[DONE] >= 1
    if "Lost" in leases.values() and len(leases) <= BARS_IN_SIGHT:
        assert drawn[LOST] >= 1, "red, as docs/how-to/prefect.md says"
    looked.goes(f"{here}?tab=Artifacts")
    looked.says("nightkiln-receipt")
    looked.bars()
    looked.keep("night")
    for artifact in ("quote", "receipt"):
        looked.goes(control.artifact(run, f"nightkiln-{artifact}"))
        looked.says("p90" if artifact == "quote" else "budget")
        looked.keep(artifact)
