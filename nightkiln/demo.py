"""The demo night: two stand-in workers, one of which misbehaves, and what comes of it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.resources import files
from pathlib import Path

from nightkiln.core.errors import StoreUnusable, WorkerLost
from nightkiln.store.store import Store
from nightkiln.trial import read_trial, sheet_of

RENDER_S = 0.2
# The second worker delivers one damaged image, raises one error and dies half-way.
FAULTS: tuple[tuple[str, ...], ...] = ((), ("corrupt@2", "error@4", "die@7"))
START_S_MAX = 30.0
QUERY = (
    "select batch, status, count(*) as jobs, sum(attempt_count) as attempts, "
    "round(sum(gpu_seconds), 1) as gpu_seconds from jobs group by all order by all"
)


INTRODUCTION = "two stand-in workers; one will fail, damage an image, and die"


def batch_name() -> str:
    """A name with the time: every demo is a batch of its own, with something to see."""
    return f"demo-{time.strftime('%Y%m%dT%H%M%S')}"


def demo_catalog() -> Path:
    """The folder of the demo catalog: inside the wheel, else in the checkout."""
    packaged = Path(str(files("nightkiln"))) / "data" / "demo"
    checkout = Path(str(files("nightkiln"))).parent / "catalogs" / "demo"
    return packaged if packaged.is_dir() else checkout


@asynccontextmanager
async def stand_ins(
    *, render_s: float = RENDER_S, faults: Sequence[Sequence[str]] = FAULTS
) -> AsyncIterator[tuple[str, ...]]:
    """Stand-in workers in processes of their own, one per entry of ``faults``; their addresses."""
    async with AsyncExitStack() as stack:
        yield tuple(
            [
                await stack.enter_async_context(_stand_in(render_s, specs, f"Stand-in {n}"))
                for n, specs in enumerate(faults, 1)
            ]
        )


@asynccontextmanager
async def _stand_in(render_s: float, faults: Sequence[str], gpu: str) -> AsyncIterator[str]:
    arguments = ["--port", "0", "--render-s", str(render_s), "--gpu-name", gpu]
    for fault in faults:
        arguments += ["--fault", fault]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "nightkiln.testing.comfyui",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the run, which still needs its workers
    )
    try:
        yield await _address(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_S_MAX):
            line = (await process.stdout.readline()).decode()
    except TimeoutError as error:
        raise WorkerLost(f"a stand-in did not start within {START_S_MAX:.0f} s") from error
    if not line.startswith("listening on "):
        raise WorkerLost(f"a stand-in did not start: it said {line!r}")
    return line.removeprefix("listening on ").strip()


def contact_sheet(store: Store, batch: str) -> tuple[str, int]:
    """Draw every job of ``batch`` into one picture in the store; where it is, and how many.

    Raises:
        StoreUnusable: there is nothing to draw.
    """
    trial = read_trial(store, batch)
    if not trial.jobs:
        raise StoreUnusable(f"{store.uri}: batch {batch!r} has no images yet")
    key = f"contact-sheet-{batch}.png"
    below = f"{len(trial.rendered)} images on {' and '.join(trial.places)}"
    store.blobs.put(key, sheet_of(trial, store, heading=batch, below=below))
    return store.where(key), len(trial.jobs)
