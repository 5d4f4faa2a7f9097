"""Nothing of the fake outlives whoever started it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.modal_fake.yard import until

STARTED = """
import json, sys
sys.path.insert(0, {here!r})
from tests.modal_fake.yard import fake_modal, until

with fake_modal() as yard:
    call = yard.fire(yard.kiln(), seconds=60)
    until(lambda: yard.seen(call).runs)
    print(json.dumps([one.pid for one in yard.fake.containers]), flush=True)
    sys.stdin.read()
"""


@pytest.mark.nights  # it starts Python, the SDK and the fake anew to kill them
def test_containers_end_with_a_fake_that_was_killed() -> None:
    here = str(Path(__file__).resolve().parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", STARTED.format(here=here)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        pids = json.loads(process.stdout.readline())

        process.kill()

        assert pids
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
