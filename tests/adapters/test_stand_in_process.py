"""The stand-in as a process of its own."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from nightkiln.testing.comfyui import FAULTS
from nightkiln.testing.comfyui.peer import Peer
from nightkiln.testing.comfyui.process import stand_in_process
from nightkiln.testing.waiting import until

MODULE = [sys.executable, "-m", "nightkiln.testing.comfyui"]
GRAPH: dict[str, Any] = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 1},
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
}


def asked(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MODULE, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_listens_and_goes_when_told(number: signal.Signals) -> None:
    with stand_in_process() as server:
        assert httpx.get(f"{server.url}/prompt").json() == {"exec_info": {"queue_remaining": 0}}

        server.process.send_signal(number)

        assert server.process.wait(10) == 0


def test_what_is_asked_for_is_what_it_has() -> None:
    options = ["--gpu-name", "NVIDIA RTX 4090", "--checkpoint", "mine.safetensors"]
    with stand_in_process(*options, "--size-mb", "0.5", "--render-s", "0.01") as server:
        asking = Peer(server.url, "stand-in", "mine.safetensors")
        [device] = asking.http.get("/system_stats").json()["devices"]
        run = asking.run(GRAPH)

        assert (device["type"], device["index"]) == ("cuda", 0)
        assert "NVIDIA RTX 4090" in device["name"]
        assert asking.http.get("/models/checkpoints").json() == ["mine.safetensors"]
        assert abs(len(asking.view(run.outputs["2"]["images"][0]).content) - 5e5) < 1e5
        stamps = [fields["timestamp"] for _, fields in run.entry["status"]["messages"]]
        assert stamps[-1] - stamps[0] >= 10
        asking.close()


def test_it_writes_down_when_each_prompt_ran(tmp_path: Path) -> None:
    record = tmp_path / "record"
    with stand_in_process("--render-s", "0.02", "--record", str(record)) as server:
        asking = Peer(server.url, "stand-in", "")
        ran = [asking.run({**GRAPH, "1": _coloured(colour)}).prompt_id for colour in (1, 2)]
        asking.close()

    first, second = (json.loads(line) for line in record.read_text().splitlines())
    assert [first["id"], second["id"]] == ran
    assert first["started_s"] + 0.02 <= first["finished_s"] <= second["started_s"]


def _coloured(colour: int) -> dict[str, Any]:
    return {**GRAPH["1"], "inputs": {**GRAPH["1"]["inputs"], "color": colour}}


def test_dying_ends_the_process_as_a_kill_does() -> None:
    with stand_in_process("--fault", "die@2") as server:
        asking = Peer(server.url, "stand-in", "")
        asking.run(GRAPH)
        asking.accepted(GRAPH)

        assert server.process.wait(10) == 137
        asking.close()


def test_every_fault_is_explained_in_the_help() -> None:
    told = asked("--help").stdout

    assert all(name in told and what in told for name, what in FAULTS.items())


@pytest.mark.parametrize("arguments", [["--fault", "nonsense"], ["--size-mb", "-1"]])
def test_what_makes_no_sense_is_refused(arguments: list[str]) -> None:
    refused = asked(*arguments)

    assert refused.returncode == 2
    assert "error:" in refused.stderr


def test_it_says_how_much_it_has_executed() -> None:
    with stand_in_process() as server, httpx.Client(base_url=server.url) as client:
        before = server.executed()
        for _ in range(3):
            assert client.post("/prompt", json={"prompt": GRAPH}).is_success
        asyncio.run(until(lambda: server.executed() == 3))

    assert before == 0
