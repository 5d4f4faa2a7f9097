"""Our own client and a whole night, on the stand-in and on the real server alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from nightkiln.comfy import ComfyWorker
from nightkiln.core.errors import RenderFailed
from nightkiln.core.model import AttemptId, BoundJob, Fault, Graph, JobId, LeaseId, Need
from nightkiln.observers import JsonLines
from nightkiln.providers.local import LocalProvider
from nightkiln.settings import Settings
from nightkiln.store.store import Store
from nightkiln.testing.comfyui.peer import Peer
from nightkiln.testing.samples import text_to_image, write_catalog
from nightkiln.verify import inspect
from nightkiln.wiring import Request, chosen_catalog, run_batch


@asynccontextmanager
async def worker_at(peer: Peer) -> AsyncIterator[ComfyWorker]:
    provider = LocalProvider([peer.url], startup_s=30.0)
    [offer] = await provider.offers(Need(), limit=1)
    lease = await provider.rent(offer, LeaseId(uuid4().hex), Need(), expires_at_s=0.0)
    async with provider.connect(lease) as worker:
        yield worker


def graph(peer: Peer, **sampler: Any) -> Graph:
    made = text_to_image(checkpoint=peer.checkpoint)
    made["5"]["inputs"].update(seed=uuid4().int % 2**48, **sampler)
    return made


def attempt() -> AttemptId:
    return AttemptId(f"conformance-{uuid4().hex}")


async def test_a_picture_is_rendered_fetched_and_verified(comfyui: Peer, tmp_path: Path) -> None:
    job = BoundJob(JobId("a" * 64), graph(comfyui), outputs_expected=1)
    async with worker_at(comfyui) as worker:
        result = await worker.result(await worker.submit(job, attempt()))
        await result.outputs[0].save(tmp_path / "out")

    facts = inspect(tmp_path / "out")
    assert (facts.media, facts.width, facts.height) == ("image/png", 64, 64)
    assert 0 <= result.timings.gpu_s <= result.timings.finished_s - result.timings.submitted_s


async def test_the_same_job_twice_gives_two_files_of_the_same_picture(
    comfyui: Peer, tmp_path: Path
) -> None:
    from PIL import Image

    job = BoundJob(JobId("b" * 64), graph(comfyui))
    async with worker_at(comfyui) as worker:
        for name in ("one", "two"):
            result = await worker.result(await worker.submit(job, attempt()))
            await result.outputs[0].save(tmp_path / name)

    with Image.open(tmp_path / "one") as one, Image.open(tmp_path / "two") as two:
        assert one.tobytes() == two.tobytes()


async def test_a_refused_graph_is_the_jobs_fault(comfyui: Peer) -> None:
    async with worker_at(comfyui) as worker:
        with pytest.raises(RenderFailed) as caught:
            await worker.submit(BoundJob(JobId("c" * 64), graph(comfyui, steps=-1)), attempt())

    assert (caught.value.fault, caught.value.kind) == (Fault.JOB, "rejected")


async def test_a_missing_model_is_the_machines_fault(comfyui: Peer) -> None:
    asked = text_to_image(checkpoint="nowhere.safetensors")
    async with worker_at(comfyui) as worker:
        with pytest.raises(RenderFailed, match="nowhere") as caught:
            await worker.submit(BoundJob(JobId("d" * 64), asked), attempt())

    assert (caught.value.fault, caught.value.kind) == (Fault.MACHINE, "unfit")


async def test_jobs_in_flight_come_back_in_any_order_they_are_asked(comfyui: Peer) -> None:
    async with worker_at(comfyui) as worker:
        tickets = [
            await worker.submit(BoundJob(JobId("e" * 64), graph(comfyui)), attempt())
            for _ in range(3)
        ]
        results = await asyncio.gather(*(worker.result(t) for t in reversed(tickets)))

    assert [len(result.outputs) for result in results] == [1, 1, 1]


async def test_a_whole_night_ends_with_one_verified_image_per_row(
    comfyui: Peer, tmp_path: Path
) -> None:
    folder = write_catalog(tmp_path / "catalog", 6, variants={"seeds": 2})
    settings = Settings(store=str(tmp_path / "store"), worker_urls=(comfyui.url,))
    with (tmp_path / "events").open("w") as events:
        outcome = await run_batch(
            Request(chosen_catalog(folder), name="night"), settings, JsonLines(events)
        )

    assert (outcome.exit_code, outcome.done) == (0, 12)
    with Store.open(settings.store).connect() as con:
        [row] = con.execute(
            "select count(*), count(distinct sha256), min(bytes) > 0 from outputs"
        ).fetchall()
    assert row == (12, 12, True)
