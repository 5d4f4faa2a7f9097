"""Provisioning: the program as it is sent to a machine, against a host of models on loopback."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from nightkiln.machine.scripts import provision_program
from nightkiln.testing.vast_machine import leash
from nightkiln.testing.waiting import until

BIG = random.Random(1).randbytes(3_000_000)  # noqa: S311 - of a model, any bytes will do
SMALL = b"a small model"
MODEL, OTHER = "checkpoints/big.safetensors", "loras/small.safetensors"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Host:
    """Where models lie.

    ``script`` holds what it does to the next requests: a status, or bytes (a float) after which
    the connection is cut, or an event until which the second half is held back.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    script: list[int | float | asyncio.Event] = field(default_factory=list)
    ranges: bool = True
    requests: list[web.Request] = field(default_factory=list)
    url: str = ""

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        content = self.files.get(request.path)
        if content is None:
            return web.Response(status=404)
        step = self.script.pop(0) if self.script else None
        if isinstance(step, int):
            return web.Response(status=step)
        start = self._start(request)
        headers = {"Content-Length": str(len(content) - start)}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        reply = web.StreamResponse(status=206 if start else 200, headers=headers)
        await reply.prepare(request)
        cut = start + int(step) if isinstance(step, float) else start + (len(content) - start) // 2
        await reply.write(content[start:cut])
        if isinstance(step, float):
            assert request.transport is not None
            request.transport.close()
            return reply
        if step is not None:
            await step.wait()
        await reply.write(content[cut:])
        return reply

    def _start(self, request: web.Request) -> int:
        asked = request.headers.get("Range", "bytes=0-") if self.ranges else "bytes=0-"
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    @property
    def starts(self) -> list[int]:
        return [self._start(request) for request in self.requests]

    @asynccontextmanager
    async def up(self) -> AsyncIterator[Host]:
        application = web.Application()
        application.router.add_get("/{path:.*}", self._answer)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        assert runner.addresses
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()


@dataclass
class Box:
    """A machine, as far as provisioning sees it."""

    folder: Path
    mark: str
    models: list[dict[str, Any]] = field(default_factory=list)
    nodes: list[dict[str, str]] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=lambda: {"pause_s": 0.01, "tries": 3})

    def __post_init__(self) -> None:
        self.ours.mkdir(parents=True)
        (self.ours / "provision.py").write_bytes(provision_program())
        for name in ("models/checkpoints", "custom_nodes"):
            (self.comfy / name).mkdir(parents=True)

    @property
    def ours(self) -> Path:
        return self.folder / ".nightkiln" / "provision"

    @property
    def comfy(self) -> Path:
        return self.folder / "ComfyUI"

    @property
    def restarts(self) -> int:
        log = self.folder / "restarts"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def wants(self, path: str, content: bytes, **other: Any) -> None:
        self.models.append({"path": path, "sha256": sha256(content), "bytes": len(content)} | other)

    def knows(self, **addresses: Sequence[str]) -> None:
        """Addresses by the path of the model; ``**`` takes any text."""
        new = self.ours / "urls.new"
        new.write_text(json.dumps(addresses))
        new.replace(self.ours / "urls.json")

    def installs(self, name: str, script: str) -> None:
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    async def starts(self) -> asyncio.subprocess.Process:
        plan = {
            "models": self.models,
            "custom_nodes": self.nodes,
            "parallel": 2,
            "restart": f"sh -c 'echo again >>{self.folder}/restarts'",
        }
        (self.ours / "plan.json").write_text(json.dumps(plan | self.more))
        variables = {
            "HOME": str(self.folder),
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
            "NK_COMFY": str(self.comfy),
            leash.VARIABLE: self.mark,
        }
        return await asyncio.create_subprocess_exec(
            "python3", "provision.py", cwd=self.ours, env=variables
        )

    async def runs(self) -> dict[str, Any]:
        """Start, wait for its end; what it says then."""
        process = await self.starts()
        status = await process.wait()
        told = self.told()
        assert (status == 0) == (told["state"] == "done")
        return told

    def told(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads((self.ours / "status.json").read_text())
        return told

    def says(self, state: str) -> Callable[[], bool]:
        return lambda: (self.ours / "status.json").exists() and self.told()["state"] == state

    def has(self, path: str) -> bytes | None:
        file = self.comfy / "models" / path
        return file.read_bytes() if file.exists() else None


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    mark = f"{os.getpid()}-{tmp_path.name}/"
    yield Box(tmp_path, mark)
    leash.end(mark)


def host() -> Host:
    return Host({"/big": BIG, "/small": SMALL})


async def test_everything_is_fetched_verified_and_told(box: Box) -> None:
    box.wants(MODEL, BIG)
    box.wants(OTHER, SMALL, sha256=None, bytes=None)
    async with host().up() as models:
        box.knows(**{MODEL: [f"{models.url}/big"], OTHER: [f"{models.url}/small"]})

        told = await box.runs()

    assert (box.has(MODEL), box.has(OTHER)) == (BIG, SMALL)
    done = {"done": len(BIG), "total": len(BIG), "state": "done"}
    assert told["files"][MODEL] == done
    assert (told["state"], told["kind"], told["why"], told["waiting_for"]) == ("done", "", "", [])
    assert told["restarted"]
    assert box.restarts == 1
    assert not any("Authorization" in request.headers for request in models.requests)


async def test_a_second_start_finds_all_there_and_leaves_comfyui_alone(box: Box) -> None:
    box.wants(MODEL, BIG)
    async with host().up() as models:
        box.knows(**{MODEL: [f"{models.url}/big"]})
        await box.runs()

        told = await box.runs()

    assert (told["state"], told["restarted"], box.restarts) == ("done", False, 1)
    assert len(models.requests) == 1


async def test_files_are_fetched_at_the_same_time(box: Box) -> None:
    both = asyncio.Event()
    box.wants(MODEL, BIG)
    box.wants(OTHER, SMALL)
    async with host().up() as models:
        models.script = [both, both]
        box.knows(**{MODEL: [f"{models.url}/big"], OTHER: [f"{models.url}/small"]})
        process = await box.starts()
        await until(lambda: len(models.requests) == 2)  # neither was answered whole yet

        both.set()

        assert await process.wait() == 0


async def test_it_goes_on_where_it_was_killed(box: Box) -> None:
    never = asyncio.Event()
    part = box.comfy / "models" / f"{MODEL}.nightkiln-part"
    box.wants(MODEL, BIG)
    async with host().up() as models:
        models.script = [never]
        box.knows(**{MODEL: [f"{models.url}/big"]})
        process = await box.starts()
        await until(lambda: part.exists() and part.stat().st_size >= 1_000_000)
        process.kill()
        await process.wait()
        had = part.stat().st_size
        assert box.has(MODEL) is None
        never.set()

        told = await box.runs()

    assert models.starts == [0, had]
    assert (told["state"], box.has(MODEL)) == ("done", BIG)


async def test_a_line_that_breaks_is_resumed(box: Box) -> None:
    box.wants(MODEL, BIG)
    async with host().up() as models:
        models.script = [1_200_000.0, 503, 503, 1_100_000.0, 429, 429]
        box.knows(**{MODEL: [f"{models.url}/big"]})

        told = await box.runs()

    assert (told["state"], box.has(MODEL)) == ("done", BIG)
    assert models.starts[0] == 0
    assert models.starts[-1] > 1_000_000


async def test_a_host_that_cannot_resume_sends_all_again(box: Box) -> None:
    box.wants(MODEL, BIG)
    async with host().up() as models:
        models.script, models.ranges = [1_200_000.0], False
        box.knows(**{MODEL: [f"{models.url}/big"]})

        told = await box.runs()

    assert (told["state"], box.has(MODEL)) == ("done", BIG)


async def test_what_was_left_by_another_file_is_thrown_away(box: Box) -> None:
    (box.comfy / "models" / f"{MODEL}.nightkiln-part").write_bytes(b"x" * 1000)
    box.wants(MODEL, BIG)
    async with host().up() as models:
        box.knows(**{MODEL: [f"{models.url}/big"]})

        told = await box.runs()

    assert models.starts == [1000, 0]
    assert (told["state"], box.has(MODEL)) == ("done", BIG)


@pytest.mark.parametrize("wrong", [{"sha256": "0" * 64}, {"bytes": len(BIG) + 1}])
async def test_a_file_that_is_not_the_one_named_gets_no_name(
    wrong: dict[str, Any], box: Box
) -> None:
    box.wants(MODEL, BIG, **wrong)
    async with host().up() as models:
        box.knows(**{MODEL: [f"{models.url}/big"]})

        told = await box.runs()

    assert (told["state"], told["kind"]) == ("failed", "checksum")
    assert MODEL in told["why"]
    assert box.has(MODEL) is None
    assert (len(models.requests), box.restarts) == (1, 0)  # a wrong file is paid for once


@pytest.mark.parametrize("code", [400, 401, 403, 410])
async def test_an_address_that_expired_is_asked_for_again(code: int, box: Box) -> None:
    box.wants(MODEL, BIG)
    async with host().up() as models:
        models.script = [1_500_000.0, code]
        box.knows(**{MODEL: [f"{models.url}/big?signature=old"]})
        process = await box.starts()
        await until(box.says("needs_urls"))
        assert box.told()["waiting_for"] == [MODEL]

        box.knows(**{MODEL: [f"{models.url}/big?signature=new"]})

        assert await process.wait() == 0

    assert box.has(MODEL) == BIG
    assert models.starts[-1] > 0  # what had come was not fetched again
    assert box.told()["waiting_for"] == []


async def test_without_any_address_it_asks_and_gives_up(box: Box) -> None:
    box.more["wait_urls_s"] = 0.5
    box.wants(MODEL, BIG)

    told = await box.runs()

    assert (told["state"], told["kind"]) == ("failed", "download")
    assert "nobody gave an address" in told["why"]


async def test_a_file_that_is_not_there_is_not_waited_for(box: Box) -> None:
    box.wants(MODEL, BIG)
    async with host().up() as models:
        box.knows(**{MODEL: [f"{models.url}/gone", f"{models.url}/moved"]})

        told = await box.runs()

    assert told["why"] == f"{MODEL}: its address answers HTTP 404"
    assert len(models.requests) == 2


async def test_another_address_helps(box: Box) -> None:
    box.wants(MODEL, BIG)
    async with host().up() as models:
        box.knows(**{MODEL: ["http://127.0.0.1:9/down", f"{models.url}/big"]})

        told = await box.runs()

    assert (told["state"], box.has(MODEL)) == ("done", BIG)


@pytest.mark.parametrize("is_listening", [True, False])
async def test_a_host_that_is_down_is_told_in_the_same_words_whatever_it_looks_like(
    box: Box, *, is_listening: bool
) -> None:
    box.wants(MODEL, BIG)
    async with host().up() as models:
        models.script = [503] * 100
        box.knows(**{MODEL: [f"{models.url}/big" if is_listening else "http://127.0.0.1:9/"]})

        told = await box.runs()

    assert told["kind"] == "download"
    assert told["why"] == f"{MODEL}: its host is down or does not answer"
    assert len(models.requests) == (box.more["tries"] if is_listening else 0)


async def test_one_failure_ends_the_others(box: Box) -> None:
    box.wants(MODEL, BIG)
    box.wants(OTHER, SMALL)  # which waits for an address in vain
    async with host().up() as models:
        box.knows(**{MODEL: [f"{models.url}/gone"]})

        told = await box.runs()

    assert (told["state"], told["kind"], told["waiting_for"]) == ("failed", "download", [])


async def test_what_cannot_fit_is_not_begun(box: Box) -> None:
    box.installs("df", "echo overlay 1 2 3 4% /; echo overlay 40000000 1 300000 99% /")
    box.wants(MODEL, BIG, bytes=7 * 10**9)
    async with host().up() as models:
        box.knows(**{MODEL: [f"{models.url}/big"]})

        told = await box.runs()

    assert (told["kind"], told["why"]) == ("disk", "the disk is too small for 7.0 GB of models")
    assert not models.requests


async def test_a_models_folder_that_cannot_be_written_is_the_disks_fault(box: Box) -> None:
    box.wants(f"checkpoints/{'x' * 300}", BIG)

    told = await box.runs()

    assert (told["state"], told["kind"]) == ("failed", "disk")
    assert told["why"] == "ComfyUI's models cannot be written: File name too long"


async def test_a_file_pushed_over_ssh_is_verified_and_moved(box: Box) -> None:
    pushed = box.ours / "pushed" / MODEL
    pushed.parent.mkdir(parents=True)
    pushed.write_bytes(BIG)
    box.wants(MODEL, BIG)

    told = await box.runs()

    assert (told["state"], box.has(MODEL)) == ("done", BIG)
    assert not pushed.exists()


async def test_a_pushed_file_that_is_damaged_is_refused(box: Box) -> None:
    pushed = box.ours / "pushed" / MODEL
    pushed.parent.mkdir(parents=True)
    pushed.write_bytes(BIG[:-1] + b"?")
    box.wants(MODEL, BIG)

    told = await box.runs()

    assert (told["kind"], box.has(MODEL)) == ("checksum", None)


async def test_while_one_is_at_work_another_start_is_nothing(box: Box) -> None:
    second_half = asyncio.Event()
    box.wants(MODEL, BIG)
    async with host().up() as models:
        models.script = [second_half]
        box.knows(**{MODEL: [f"{models.url}/big"]})
        first = await box.starts()
        await until(lambda: models.requests)

        second = await box.starts()
        assert await second.wait() == 0
        assert box.told()["state"] == "working"
        second_half.set()

        assert await first.wait() == 0
    assert len(models.requests) == 1


async def test_its_status_is_whole_whenever_it_is_read(box: Box) -> None:
    second_half = asyncio.Event()
    box.wants(MODEL, BIG)
    async with host().up() as models:
        models.script = [second_half]
        box.knows(**{MODEL: [f"{models.url}/big"]})
        process = await box.starts()
        await until((box.ours / "status.json").exists)
        beats = set()

        def has_beaten() -> bool:
            told = box.told()  # raises if it is torn
            beats.add(told["beat"])
            return len(beats) >= 4 and told["mbps"] is not None

        await until(has_beaten)
        told = box.told()
        second_half.set()
        await process.wait()

    assert told["files"][MODEL]["state"] == "loading"
    assert 0 < told["files"][MODEL]["done"] < len(BIG)


@pytest.mark.parametrize("path", ["big.safetensors", "/etc/passwd", "../custom_nodes/x.py"])
async def test_a_plan_that_leads_elsewhere_is_refused(path: str, box: Box) -> None:
    box.wants(path, BIG)

    told = await box.runs()

    assert told["state"] == "failed"
    assert "plan.json" in told["why"]


async def test_comfyui_is_started_again_after_a_start_that_was_ended_before_it_came_to_that(
    box: Box,
) -> None:
    box.wants(MODEL, BIG)
    async with host().up() as models:
        box.knows(**{MODEL: [f"{models.url}/big"]})
        box.more["restart"] = "false"
        told = await box.runs()
        assert (told["kind"], told["why"]) == ("comfy", "ComfyUI could not be started again")

        del box.more["restart"]
        told = await box.runs()

    assert (told["restarted"], box.restarts, len(models.requests)) == (True, 1, 1)
