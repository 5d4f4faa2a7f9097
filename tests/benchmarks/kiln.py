"""nightkiln whole: preflight, plan, claim, journal, verified images, committed shards."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nightkiln.observers import JsonLines
from nightkiln.ports.observer import Observer
from nightkiln.ports.provider import Provider
from nightkiln.settings import Settings
from nightkiln.testing.samples import write_catalog
from nightkiln.wiring import Request, chosen_catalog, run_batch
from tests.benchmarks.child import measured

LAG_PROBE_S = 0.005


def render(urls: Sequence[str], jobs: int, folder: str) -> dict[str, Any]:
    """Run a batch of ``jobs`` prompts with its store in ``folder``; what it cost.

    ``lag_s`` are the delays with which the event loop got round to something that was due.
    """
    catalog = write_catalog(Path(folder) / "catalog", jobs)
    settings = Settings(store=str(Path(folder) / "store"), worker_urls=tuple(urls))
    return cost_of(catalog, jobs, settings)


def cost_of(
    catalog: Path, jobs: int, settings: Settings, *, provider: Provider | None = None
) -> dict[str, Any]:
    """What a run costs, on ``provider`` instead of those of the settings, if one is given."""
    lag_s: list[float] = []
    rents_from = None if provider is None else {provider.name: provider}
    with Path(os.devnull).open("w") as out, measured() as spent:
        done = asyncio.run(_run(catalog, settings, JsonLines(out), lag_s, rents_from))
    if done != jobs:
        raise RuntimeError(f"{done} of {jobs} jobs are done: nothing to measure")
    return {"jobs": jobs, "wall_s": spent.wall_s, "cpu_s": spent.cpu_s, "lag_s": lag_s}


async def _run(
    catalog: Path,
    settings: Settings,
    observer: Observer,
    lag_s: list[float],
    rents_from: Mapping[str, Provider] | None,
) -> int:
    probe = asyncio.create_task(_probe(lag_s))
    request = Request(chosen_catalog(catalog))
    outcome = await run_batch(request, settings, observer, rents_from=rents_from)
    probe.cancel()
    return outcome.done


async def _probe(lag_s: list[float]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due_s = loop.time() + LAG_PROBE_S
        await asyncio.sleep(LAG_PROBE_S)
        lag_s.append(loop.time() - due_s)
