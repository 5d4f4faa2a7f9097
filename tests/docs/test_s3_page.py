"""The page about S3, run as shown, against a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightkiln.testing.comfyui.process import stand_in_process
from nightkiln.testing.s3_server import S3Server
from tests.docs.shown import ELSEWHERE, ROOT, S3_PAGE, Shell, commands


@pytest.mark.s3
def test_every_command_of_the_page_works_as_shown(s3: S3Server, tmp_path: Path) -> None:
    with stand_in_process() as worker:
        ports = {"8188": worker.url.rpartition(":")[2], "20000": s3.url.rpartition(":")[2]}
        shell = Shell(tmp_path, ports)
        told = [
            shell.run(command)
            for command in commands((ROOT / S3_PAGE).read_text())
            if command not in ELSEWHERE[S3_PAGE]
        ]

    assert "4" in told[-1]
