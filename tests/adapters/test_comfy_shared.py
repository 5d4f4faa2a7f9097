"""A worker that others use too, and input files that others change."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from nightkiln.comfy import ComfyWorker
from nightkiln.comfy_http import ComfyServer
from nightkiln.comfy_progress import OTHERS_S_MAX, Quiet
from nightkiln.core.errors import RenderFailed, WorkerLost
from nightkiln.core.model import (
    AttemptId,
    BoundFile,
    BoundJob,
    Fault,
    Graph,
    InputFile,
    JobId,
    Ticket,
)
from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.comfyui.samples import image, save, sleep
from nightkiln.wire import Wire

MINE, MINE_TOO, THEIRS = Ticket("mine"), Ticket("mine too"), Ticket("theirs")


@asynccontextmanager
async def worker_at(server: StandIn, *, stall_s: float) -> AsyncIterator[ComfyWorker]:
    async with aclosing(ComfyWorker(Wire(server.url), stall_s=stall_s)) as worker:
        yield worker


def graph(seconds: float) -> Graph:
    return {"1": image(), "2": sleep(seconds), "3": save("2")}


async def submit_for_somebody_else(server: StandIn, seconds: float) -> None:
    async with aclosing(ComfyServer(Wire(server.url))) as other:
        await other.call("POST", "/prompt", json={"prompt": graph(seconds)})


async def test_waiting_behind_somebody_elses_job_is_no_stall() -> None:
    async with StandIn() as server, worker_at(server, stall_s=1.0) as worker:
        await submit_for_somebody_else(server, 3.0)
        ticket = await worker.submit(
            BoundJob(JobId("1" * 64), graph(0.0)), AttemptId("night-1-0000001")
        )
        rendered = await worker.result(ticket)

    assert len(rendered.outputs) == 1


async def test_a_job_of_ours_that_stands_still_is_a_stall() -> None:
    async with StandIn() as server, worker_at(server, stall_s=1.0) as worker:
        ticket = await worker.submit(
            BoundJob(JobId("1" * 64), graph(60.0)), AttemptId("night-1-0000001")
        )
        with pytest.raises(WorkerLost, match="no progress"):
            await worker.result(ticket)


def quiet_at(now_s: float, *, running: set[Ticket], looks: int = 10) -> Quiet:
    """What ``looks`` looks, the last one at ``now_s``, make of a queue that does not change."""
    quiet = Quiet(0.0)
    for look in range(1, looks + 1):
        quiet.look(
            MINE,
            ours={MINE, MINE_TOO},
            running=frozenset(running),
            waiting=frozenset({MINE, MINE_TOO, THEIRS} - running),
            now_s=now_s * look / looks,
        )
    return quiet


def test_time_counts_while_our_own_job_runs() -> None:
    assert quiet_at(100.0, running={MINE}).began_s == 0.0
    assert quiet_at(100.0, running={MINE_TOO}).began_s == 0.0


def test_somebody_elses_job_has_a_longer_but_not_an_endless_time() -> None:
    quiet = quiet_at(100.0, running={THEIRS})

    assert (quiet.began_s, quiet.limit_s(30.0)) == (10.0, OTHERS_S_MAX)


def test_our_own_time_begins_when_the_others_are_through() -> None:
    quiet = quiet_at(100.0, running={THEIRS})
    ours = {MINE, MINE_TOO}
    quiet.look(
        MINE, ours=ours, running=frozenset({MINE}), waiting=frozenset({MINE_TOO}), now_s=102.0
    )

    assert (quiet.began_s, quiet.limit_s(30.0)) == (100.0, 30.0)


@pytest.mark.parametrize("content", [b"another fox", b"a fox", b"a much longer animal"])
async def test_an_input_file_that_has_changed_is_not_taken_for_the_planned_one(
    content: bytes, tmp_path: Path
) -> None:
    picture = tmp_path / "fox.png"
    picture.write_bytes(content)
    planned = InputFile(str(picture), hashlib.sha256(b"the fox").hexdigest(), 7, ".png")
    loading: Graph = {"1": {"class_type": "LoadImage", "inputs": {}}, "2": save("1")}
    job = BoundJob(JobId("1" * 64), loading, (BoundFile(planned, (("1", "image"),)),))

    async with StandIn() as server, worker_at(server, stall_s=60.0) as worker:
        with pytest.raises(RenderFailed, match=r"fox\.png has changed.*again") as caught:
            await asyncio.wait_for(worker.submit(job, AttemptId("night-1-0000001")), 10)
        assert server.submitted == []

    assert (caught.value.fault, caught.value.kind) == (Fault.JOB, "input")
