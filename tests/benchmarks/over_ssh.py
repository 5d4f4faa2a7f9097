"""Images of real weight over SSH: what one controller can take in, and what that lets it feed."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles
from urllib.parse import urlsplit

from nightkiln.comfy import ComfyWorker
from nightkiln.core.model import AttemptId, BoundJob, JobId
from nightkiln.machine.stay import Address
from tests.benchmarks.bare import request
from tests.benchmarks.busy import LAG_MS_MAX
from tests.benchmarks.child import in_child, measured
from tests.benchmarks.figure import Figure, at_least, at_most
from tests.benchmarks.fleet import fleet
from tests.benchmarks.images import SIZE_MB, stages_ms
from tests.benchmarks.jobs import rendered
from tests.benchmarks.ssh_host import ssh_host
from tests.benchmarks.tunnelled import keys_in, tunnel

PER_S_MIN = 25.0
GPU_S = 4.0  # per image: an RTX 4090 at SDXL (market file, from published runs)


def figures(*, is_quick: bool) -> Iterator[Figure]:
    """Images per second, what each stage costs, and how many GPUs that keeps busy."""
    count = 60 if is_quick else 600
    plain = rendered("kiln", count, size_mb=SIZE_MB)
    over = rendered("tunnelled", count, size_mb=SIZE_MB)
    per_s = count / over["wall_s"]
    yield at_least("ssh_images_kiln", per_s, "images/s", PER_S_MIN)
    yield Figure("ssh_images_over_plain", plain["wall_s"] / over["wall_s"], "x")
    yield Figure("ssh_images_kiln_cpu", 1000 * over["cpu_s"] / count, "ms/image")
    lag_ms = 1000 * quantiles(over["lag_s"], n=100)[98]
    yield at_most("ssh_images_loop_lag_p99", lag_ms, "ms", LAG_MS_MAX)
    yield Figure("ssh_gpus_fed", per_s * GPU_S, "GPUs")
    with fleet(size_mb=SIZE_MB) as there, tempfile.TemporaryDirectory() as folder:
        arguments = {"url": there.urls[0], "folder": folder, "count": 20 if is_quick else 200}
        for stage, cpu_ms in in_child(__name__, "stages", **arguments).items():
            yield Figure(f"ssh_images_{stage}_cpu", cpu_ms, "ms/image")


def stages(url: str, folder: str, count: int) -> dict[str, float]:
    """CPU milliseconds per image of each stage; the download goes over SSH."""
    (Path(folder) / "plain").mkdir()
    found = stages_ms(url, str(Path(folder) / "plain"), count)
    return {**found, "download": 1000 * asyncio.run(_download(url, Path(folder), count)) / count}


async def _download(url: str, folder: Path, count: int) -> float:
    """Fetch one picture ``count`` times; CPU seconds of this process."""
    keys, authorized = keys_in(folder)
    with ssh_host(authorized, urlsplit(url).port or 0) as port:
        async with tunnel(Address("127.0.0.1", port), keys, folder / "pin") as wire:
            worker = ComfyWorker(wire)
            job = BoundJob(JobId("picture"), request(1)["prompt"])
            ticket = await worker.submit(job, AttemptId("picture-1"))
            [output] = (await worker.result(ticket)).outputs
            with measured() as spent:
                for n in range(count):
                    await output.save(folder / f"{n}.png")
    return spent.cpu_s
