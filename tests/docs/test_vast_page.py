"""docs/how-to/vast.md, command by command, at the simulated market that it tells to start."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nightkiln.settings import Settings
from nightkiln.store.store import Store
from nightkiln.testing.waiting import until
from tests.docs.shown import ELSEWHERE, MARKET, ROOT, VAST_PAGE, Shell, commands, free_port

NAMED = re.compile(r"\bNIGHTKILN_[A-Z][A-Z_]*[A-Z]\b")
# Variables of the project's own tests and tools.
NO_SETTINGS = {  # but told to tests, to `nightkiln up`, and to compose.yaml
    "NIGHTKILN_REAL_COMFYUI_URL",
    "NIGHTKILN_DATABASE",
    "NIGHTKILN_CATALOGS_FOLDER",
    "NIGHTKILN_STORE_FOLDER",
}


@pytest.mark.nights
@pytest.mark.timeout_s(300)
async def test_every_command_of_the_page_works_as_shown(tmp_path: Path) -> None:
    shell = Shell(tmp_path, {"8700": free_port()})
    shell.run(". .venv/bin/activate")

    with shell.started(MARKET) as log:
        await until(lambda: "NIGHTKILN_VAST_API_KEY" in log.read_text())
        for command in commands((ROOT / VAST_PAGE).read_text()):
            if command not in ELSEWHERE[VAST_PAGE]:
                said = shell.run(command)
                if command.startswith("nightkiln leases"):
                    assert "nothing is billed" in said

    with Store.open(str(tmp_path / "simulated")).connect() as con:
        counts = con.execute("select status, count(*) from jobs group by 1").fetchall()
    assert counts == [("done", 8)]


def test_every_setting_that_is_named_in_passing_exists() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("workers/*")]
    texts = [page.read_text() for page in pages if page.is_file()]

    named = {
        name for text in texts for name in re.findall(r"\bNIGHTKILN_[A-Z][A-Z_]*[A-Z]\b", text)
    }

    known = {f"NIGHTKILN_{name.upper()}" for name in Settings.model_fields}
    assert named - NO_SETTINGS <= known
