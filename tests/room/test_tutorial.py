"""docs/tutorial/first-night.md, command by command, in a control room of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightkiln.testing.comfyui.process import stand_in_process
from tests.docs.shown import ELSEWHERE, ROOT, TUTORIAL, UP, Shell, commands, free_port

pytestmark = [pytest.mark.prefect, pytest.mark.nights]

PROMPTS = [f"a fox at dawn, no. {number}" for number in range(12)]  # more than a trial takes
COMMAND_S_MAX = 290.0  # to open a room, on a busy computer


def test_every_command_of_the_tutorial_works_from_a_clone_to_a_receipt(tmp_path: Path) -> None:
    said = {}
    with stand_in_process() as worker:
        port = free_port()
        shell = Shell(
            tmp_path,
            {"8188": worker.url.rpartition(":")[2], "4200": port},
            PREFECT_WORKER_QUERY_SECONDS="1",
            COLUMNS="160",
        )
        (tmp_path / "workflow.json").symlink_to(ROOT / "catalogs" / "parti" / "workflow.json")
        (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
        try:
            for command in commands((ROOT / TUTORIAL).read_text()):
                if command not in ELSEWHERE[TUTORIAL]:
                    ours = f"{UP} --port {port}" if command == UP else command
                    said[command] = shell.run(ours, within_s=COMMAND_S_MAX)
        finally:
            shell.run(". .venv/bin/activate; nightkiln down --now")

    assert f"127.0.0.1:{port}" in said[UP]
    assert "12 of 12 jobs done" in said["nightkiln receipt first-night"]
    assert said["nightkiln status --store results"].count("first-night") == 1
