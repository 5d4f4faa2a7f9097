"""The ComfyUI worker against the stand-in, which misbehaves on demand."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from nightkiln.comfy import ComfyWorker
from nightkiln.core.errors import RenderFailed, WorkerLost
from nightkiln.core.model import (
    AttemptId,
    BoundFile,
    BoundJob,
    Fault,
    Graph,
    InputFile,
    JobId,
    LeaseId,
    Need,
    Offer,
)
from nightkiln.ports.worker import Rendered
from nightkiln.providers.local import LocalProvider
from nightkiln.testing.comfyui import StandIn
from nightkiln.verify import inspect


def graph(seed: int = 1, checkpoint: str = "tiny.safetensors") -> Graph:
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox", "clip": ["1", 1]}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["1", 1]}},
        "4": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1},
        },
        "5": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["1", 0],
                "positive": ["2", 0],
                "negative": ["3", 0],
                "latent_image": ["4", 0],
                "seed": seed,
                "steps": 1,
                "cfg": 1.0,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1.0,
            },
        },
        "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
        "7": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": "x"}},
    }


def job(seed: int = 1, **changes: Any) -> BoundJob:
    return BoundJob(id=JobId(f"{seed:064x}"), graph=graph(seed, **changes))


def attempt(number: int) -> AttemptId:
    return AttemptId(f"night-1-{number:07d}")


@asynccontextmanager
async def worker_at(server: StandIn, *, stall_s: float = 600.0) -> AsyncIterator[ComfyWorker]:
    provider = LocalProvider([server.url], startup_s=5.0, stall_s=stall_s)
    async with provider:
        [offer] = await provider.offers(Need(), limit=1)
        lease = await provider.rent(offer, LeaseId("lease-1"), Need(), expires_at_s=0.0)
        async with provider.connect(lease) as worker:
            yield worker


async def rendered(worker: ComfyWorker, number: int = 1) -> Rendered:
    return await worker.result(await worker.submit(job(number), attempt(number)))


async def saved_and_inspected(result: Rendered, path: Path) -> None:
    await result.outputs[0].save(path)
    inspect(path)


async def test_a_job_is_submitted_waited_for_and_fetched(tmp_path: Path) -> None:
    async with StandIn(render_s=0.05) as server, worker_at(server) as worker:
        result = await rendered(worker)
        await result.outputs[0].save(tmp_path / "out")

    assert [output.node for output in result.outputs] == ["7"]
    assert 0.04 <= result.timings.gpu_s <= result.timings.finished_s - result.timings.submitted_s
    assert inspect(tmp_path / "out").media == "image/png"


async def test_submitting_an_attempt_twice_renders_it_once() -> None:
    async with StandIn() as server, worker_at(server) as worker:
        first = await worker.submit(job(), attempt(1))
        second = await worker.submit(job(), attempt(1))
        await worker.result(first)

        assert first == second
        assert len(server.renders) == 1


@pytest.mark.parametrize("fault", ["lost-reply@1", "server-error@1"])
async def test_a_post_whose_reply_is_lost_is_not_sent_again(fault: str) -> None:
    async with StandIn(faults=[fault]) as server, worker_at(server) as worker:
        result = await rendered(worker)

        assert len(result.outputs) == 1
        assert len(server.renders) == 1


async def test_another_process_may_ask_for_a_result(tmp_path: Path) -> None:
    async with StandIn(render_s=0.2) as server:
        async with worker_at(server) as first:
            ticket = await first.submit(job(), attempt(1))
        async with worker_at(server) as second:
            result = await second.result(ticket)
            await result.outputs[0].save(tmp_path / "out")

    assert inspect(tmp_path / "out").width == 64


@pytest.mark.parametrize(
    ("fault", "whose", "kind"),
    [
        ("error@1", Fault.UNKNOWN, "exception"),
        ("oom@1", Fault.MACHINE, "oom"),
        ("disk-full@1", Fault.MACHINE, "disk_full"),
        ("interrupted@1", Fault.MACHINE, "interrupted"),
        ("no-outputs@1", Fault.UNKNOWN, "no_outputs"),
        ("partial-node-errors@1", Fault.JOB, "rejected"),
    ],
)
async def test_a_failure_says_whose_fault_it_is(fault: str, whose: Fault, kind: str) -> None:
    async with StandIn(faults=[fault]) as server, worker_at(server) as worker:
        with pytest.raises(RenderFailed) as caught:
            await rendered(worker)
        after = await rendered(worker, 2)

    assert (caught.value.fault, caught.value.kind) == (whose, kind)
    assert len(after.outputs) == 1


async def test_a_model_that_is_not_there_is_the_machines_fault() -> None:
    async with StandIn() as server, worker_at(server) as worker:
        with pytest.raises(RenderFailed, match=r"missing\.safetensors") as caught:
            await worker.submit(job(checkpoint="missing.safetensors"), attempt(1))

    assert (caught.value.fault, caught.value.kind) == (Fault.MACHINE, "unfit")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("corrupt@1", "checksum"),
        ("blank@1", "blank"),
        ("html@1", "type"),
        ("missing-file@1", "missing_file"),
        ("truncate@1", "truncated"),
    ],
)
async def test_what_comes_back_damaged_does_not_count(
    fault: str, kind: str, tmp_path: Path
) -> None:
    async with StandIn(faults=[fault]) as server, worker_at(server) as worker:
        result = await rendered(worker)
        with pytest.raises(RenderFailed) as caught:
            await saved_and_inspected(result, tmp_path / "out")

    assert caught.value.kind == kind


async def test_evil_names_stay_names_of_the_server(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    async with StandIn(faults=["evil-names@1"]) as server, worker_at(server) as worker:
        result = await rendered(worker)
        await result.outputs[0].save(inside / "out")

    assert sorted(os.listdir(tmp_path)) == ["inside"]
    assert os.listdir(inside) == ["out"]


async def test_a_forgotten_job_means_that_the_worker_was_restarted() -> None:
    async with StandIn(faults=["forget@1"]) as server, worker_at(server) as worker:
        with pytest.raises(WorkerLost, match="forgotten"):
            await rendered(worker)


async def test_a_dead_server_is_lost() -> None:
    async with StandIn(faults=["die@1"]) as server, worker_at(server) as worker:
        with pytest.raises(WorkerLost, match="does not answer"):
            await rendered(worker)


async def test_a_dead_thread_behind_a_friendly_server_is_noticed() -> None:
    async with (
        StandIn(faults=["worker-thread-death@1"]) as server,
        worker_at(server, stall_s=1.0) as worker,
    ):
        with pytest.raises(WorkerLost, match="no progress"):
            await rendered(worker)


async def test_a_cancelled_job_leaves_the_queue() -> None:
    async with StandIn(render_s=30.0) as server, worker_at(server) as worker:
        running = await worker.submit(job(1), attempt(1))
        waiting = await worker.submit(job(2), attempt(2))
        await worker.cancel(waiting)
        await worker.cancel(running)
        with pytest.raises(RenderFailed, match="interrupted"):
            await worker.result(running)


async def test_an_input_file_is_uploaded_once_and_bound_under_the_servers_name(
    tmp_path: Path,
) -> None:
    async with StandIn() as server, worker_at(server) as worker:
        made = await rendered(worker)
        picture = tmp_path / "in.png"
        await made.outputs[0].save(picture)
        digest = hashlib.sha256(picture.read_bytes()).hexdigest()
        file = InputFile(str(picture), digest, picture.stat().st_size, ".png")
        loading: Graph = {
            "1": {"class_type": "LoadImage", "inputs": {"image": "unbound.png"}},
            "2": {
                "class_type": "SaveImage",
                "inputs": {"images": ["1", 0], "filename_prefix": "x"},
            },
        }
        bound = BoundJob(JobId("f" * 64), loading, (BoundFile(file, (("1", "image"),)),))

        result = await worker.result(await worker.submit(bound, attempt(7)))

    assert len(result.outputs) == 1


async def test_two_jobs_in_flight_both_come_back() -> None:
    async with StandIn(render_s=0.05) as server, worker_at(server) as worker:
        tickets = [await worker.submit(job(n), attempt(n)) for n in (1, 2, 3)]
        results = await asyncio.gather(*(worker.result(ticket) for ticket in tickets))

    assert [len(result.outputs) for result in results] == [1, 1, 1]


async def test_an_address_where_nothing_runs_is_told_with_the_address() -> None:
    async with StandIn() as server:
        url = server.url
    provider = LocalProvider([url], startup_s=0.6)
    offer = Offer("local", url, startup_s=0.6)
    lease = await provider.rent(offer, LeaseId("lease-1"), Need(), expires_at_s=0.0)

    with pytest.raises(WorkerLost, match=url):
        async with provider.connect(lease):
            pass
