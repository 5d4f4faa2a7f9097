"""What a container of the Modal app does with its ComfyUI, against the stand-in."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.samples import text_to_image
from workers.modal_comfy import ANSWER_BYTES_MAX, Broken, Expired, Server, TooLarge
from workers.modal_plan import Model, Plan

HOUR_S = 3600.0
MB = 10**6
PLAN = Plan(startup_timeout_s=1)


def request(**changes: Any) -> dict[str, Any]:
    """A job that any ComfyUI renders."""
    usual = {
        "graph": text_to_image(),
        "files": [],
        "expires_at": time.time() + HOUR_S,
        "result_bytes_max": 64 * MB,
    }
    return {**usual, **changes}


async def rendered(server: StandIn, **changes: Any) -> dict[str, Any]:
    answer: dict[str, Any] = await asyncio.to_thread(
        Server(PLAN, server.url).render, request(**changes)
    )
    return answer


async def test_a_prompt_gives_its_history_and_its_files() -> None:
    async with StandIn() as comfy:
        answer = await rendered(comfy)

    assert answer["entry"]["status"]["status_str"] == "success"
    assert "prompt" not in answer["entry"]
    [file] = answer["files"]
    assert file["content"].startswith(b"\x89PNG")


async def test_a_second_run_of_the_same_input_is_another_prompt() -> None:
    async with StandIn() as comfy:
        for _ in range(2):
            await rendered(comfy)

        assert len(set(comfy.submitted)) == 2


async def test_a_graph_that_is_refused_comes_back_as_comfyui_said_it() -> None:
    graph = {"1": {"class_type": "NoSuchNode", "inputs": {}}}

    async with StandIn() as comfy:
        answer = await rendered(comfy, graph=graph)

    assert answer["rejection"]["error"]["type"] == "invalid_prompt"


async def test_input_files_are_uploaded_and_bound() -> None:
    content = b"\x89PNG\r\n\x1a\n" + b"0" * 100
    digest = hashlib.sha256(content).hexdigest()
    graph: dict[str, Any] = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "to be bound"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    }
    file = {"sha256": digest, "suffix": ".png", "content": content, "targets": [["1", "image"]]}

    async with StandIn() as comfy:
        answer = await rendered(comfy, graph=graph, files=[file])

    assert "rejection" not in answer, answer
    assert graph["1"]["inputs"]["image"] == f"nightkiln/{digest}.png"


async def test_files_that_are_too_large_are_no_result() -> None:
    async with StandIn(size_mb=1.0) as comfy:
        with pytest.raises(TooLarge):
            await rendered(comfy, result_bytes_max=MB // 2)


async def test_a_file_comes_whole_however_large_as_long_as_it_may_be() -> None:
    async with StandIn(size_mb=20.0) as comfy:  # more than any other answer may have
        answer = await rendered(comfy, result_bytes_max=64 * MB)
        with pytest.raises(TooLarge):
            await rendered(comfy, result_bytes_max=ANSWER_BYTES_MAX)

    [file] = answer["files"]
    assert len(file["content"]) > ANSWER_BYTES_MAX


async def test_what_nobody_waits_for_any_more_is_interrupted() -> None:
    async with StandIn(render_s=60.0) as comfy:
        with pytest.raises(Expired):
            await rendered(comfy, expires_at=time.time() + 0.2)

        await asyncio.wait_for(comfy.idle(), 5.0)  # else it would render for a minute


@pytest.mark.parametrize("fault", ["die@1", "forget@1"])
async def test_a_server_that_is_not_what_it_was_is_broken(fault: str) -> None:
    async with StandIn(faults=[fault]) as comfy:
        with pytest.raises(Broken):
            await rendered(comfy)


async def test_a_server_that_never_answers_is_broken_in_time() -> None:
    async with StandIn() as gone:
        url = gone.url

    with pytest.raises(Broken, match="does not answer"):
        await asyncio.to_thread(Server(PLAN, url).start)


MAIN = """
import http.server, sys, time
time.sleep(0.3)  # as long as nodes are loaded, nobody listens
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"system": {}, "devices": []}')
    def log_message(self, *_): pass
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Answer).serve_forever()
"""


def a_child(folder: Path, main: str) -> Server:
    """A container whose ComfyUI is this program."""
    (folder / "main.py").write_text(main)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return Server(Plan(startup_timeout_s=20), "", home=folder, port=port)


def test_a_container_waits_until_its_own_comfyui_truly_answers(tmp_path: Path) -> None:
    server = a_child(tmp_path, MAIN)

    server.start()

    assert "system" in server.stats()
    server.stop()
    with pytest.raises(Broken, match="ended with status"):
        server.stats()


def test_a_comfyui_that_ends_while_it_starts_is_told_at_once(tmp_path: Path) -> None:
    started_s = time.monotonic()

    with pytest.raises(Broken, match="ended with status 7"):
        a_child(tmp_path, "raise SystemExit(7)").start()

    assert time.monotonic() - started_s < 10.0


SILENT = """
import socket, sys
port = int(sys.argv[sys.argv.index("--port") + 1])
with socket.create_server(("127.0.0.1", port)) as server:
    for said in ANSWERS:
        line, _ = server.accept()
        with line:
            line.recv(65536)
            line.sendall(said)
"""


@pytest.mark.parametrize(
    "answers",
    [
        [b"220 this is no HTTP\r\n"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"],
        [b""],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhtml"],
    ],
)
def test_whatever_answers_in_the_place_of_comfyui_is_broken_and_no_crash(
    tmp_path: Path, answers: list[bytes]
) -> None:
    """A crash while it starts would have Modal start it again for ever."""
    server = a_child(tmp_path, f"ANSWERS = {answers!r}\n{SILENT}")

    with pytest.raises(Broken):  # it ends after its answers
        server.start()


def test_a_model_whose_place_is_taken_is_told_by_name(tmp_path: Path) -> None:
    model = Model("checkpoints/x.safetensors", "0" * 64, "https://example.org/x")
    (tmp_path / "volume" / model.place).parent.mkdir(parents=True)
    (tmp_path / "volume" / model.place).touch()
    (tmp_path / "home" / "models" / model.path).mkdir(parents=True)  # a folder of that name
    plan = Plan(models=(model,))

    with pytest.raises(Broken, match=r"checkpoints/x\.safetensors cannot have its place"):
        Server(plan, "", home=tmp_path / "home", volume=tmp_path / "volume").start()


async def test_a_model_that_is_not_in_the_volume_is_told_by_name() -> None:
    model = Model("checkpoints/x.safetensors", "0" * 64, "https://example.org/x")

    with pytest.raises(Broken, match=r"checkpoints/x\.safetensors is not in the volume"):
        await asyncio.to_thread(Server(Plan(models=(model,)), "").start)
