"""Images of real weight: images per second, and what each stage of one costs."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from nightkiln.blobs import LocalBlobs
from nightkiln.comfy import ComfyWorker
from nightkiln.core.model import AttemptId, BoundJob, JobId
from nightkiln.verify import inspect
from nightkiln.wire import Wire
from tests.benchmarks.bare import request
from tests.benchmarks.child import in_child, measured
from tests.benchmarks.figure import Figure, at_least
from tests.benchmarks.fleet import fleet
from tests.benchmarks.jobs import rendered

SIZE_MB = 1.5
PER_S_MIN = 30.0


def figures(*, is_quick: bool) -> Iterator[Figure]:
    """Images per second, then CPU per stage."""
    count = 60 if is_quick else 600
    bare = rendered("bare", count, size_mb=SIZE_MB)
    kiln = rendered("kiln", count, size_mb=SIZE_MB)
    yield Figure("images_bare", count / bare["wall_s"], "images/s")
    yield at_least("images_kiln", count / kiln["wall_s"], "images/s", PER_S_MIN)
    yield Figure("images_kiln_over_bare", bare["wall_s"] / kiln["wall_s"], "x")
    yield Figure("images_kiln_cpu", 1000 * kiln["cpu_s"] / count, "ms/image")
    with fleet(size_mb=SIZE_MB) as there, tempfile.TemporaryDirectory() as folder:
        arguments = {"url": there.urls[0], "folder": folder, "count": 20 if is_quick else 200}
        stages = in_child(__name__, "stages_ms", **arguments)
    for stage, cpu_ms in stages.items():
        yield Figure(f"images_{stage}_cpu", cpu_ms, "ms/image")


def stages_ms(url: str, folder: str, count: int) -> dict[str, float]:
    """CPU milliseconds per image of each stage by itself, one image after the other."""
    paths = [Path(folder) / f"{n}.png" for n in range(count)]
    download_s = asyncio.run(_download(url, paths))
    contents = [path.read_bytes() for path in paths]
    blobs = LocalBlobs(Path(folder) / "store")
    each: dict[str, Callable[[int], Any]] = {
        "verify": lambda n: inspect(paths[n], sha256="0" * 64),
        "hash": lambda n: hashlib.sha256(contents[n]).hexdigest(),
        "write": lambda n: blobs.put(f"images/batch/{n % 16:02x}/{n}.png", paths[n]),
    }
    stages = {"download": 1000 * download_s / count}
    for name, stage in each.items():
        with measured() as spent:
            for n in range(count):
                stage(n)
        stages[name] = 1000 * spent.cpu_s / count
    return stages


async def _download(url: str, paths: Sequence[Path]) -> float:
    """Fetch one picture as often as there are paths; CPU seconds."""
    async with aclosing(ComfyWorker(Wire(url))) as worker:
        job = BoundJob(JobId("picture"), request(1)["prompt"])
        [output] = (await worker.result(await worker.submit(job, AttemptId("picture-1")))).outputs
        with measured() as spent:
            for path in paths:
                await output.save(path)
    return spent.cpu_s
