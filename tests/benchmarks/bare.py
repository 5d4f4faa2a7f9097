"""Baseline: the loop that one writes in half an hour. No check, no store, no memory of its work."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from nightkiln.testing.samples import text_to_image
from tests.benchmarks.child import measured
from tests.benchmarks.fleet import IN_FLIGHT

POLL_S = 0.01
FILES = ("filename", "subfolder", "type")


def request(number: int) -> dict[str, Any]:
    """What asks a worker for picture ``number``: the graph that the catalog would bind."""
    graph = text_to_image()
    graph["2"]["inputs"]["text"] = f"sample prompt {number}"
    graph["5"]["inputs"]["seed"] = number
    return {"prompt": graph, "prompt_id": str(uuid.uuid4())}


def files_of(entry: dict[str, Any]) -> list[dict[str, str]]:
    """The query of ``/view`` for every output file in a history entry."""
    told = (image for node in entry["outputs"].values() for image in node["images"])
    return [{key: image[key] for key in FILES} for image in told]


def render(urls: Sequence[str], jobs: int, folder: str) -> dict[str, float]:
    """Render ``jobs`` pictures into ``folder``; what it cost."""
    with measured() as spent:
        asyncio.run(_render(urls, jobs, Path(folder)))
    return {"jobs": jobs, "wall_s": spent.wall_s, "cpu_s": spent.cpu_s}


async def _render(urls: Sequence[str], jobs: int, folder: Path) -> None:
    numbers = iter(range(jobs))
    limits = httpx.Limits(max_connections=IN_FLIGHT * len(urls))
    async with httpx.AsyncClient(limits=limits, trust_env=False) as http, asyncio.TaskGroup() as g:
        for url in itertools.islice(itertools.cycle(urls), IN_FLIGHT * len(urls)):
            g.create_task(_work(http, url, numbers, folder))


async def _work(http: httpx.AsyncClient, url: str, numbers: Iterator[int], folder: Path) -> None:
    for number in numbers:
        for n, content in enumerate(await pictures(http, url, number)):
            (folder / f"{number}-{n}.png").write_bytes(content)


async def pictures(http: httpx.AsyncClient, url: str, number: int) -> list[bytes]:
    """Submit one job, wait for it, download what it made."""
    body = request(number)
    (await http.post(f"{url}/prompt", json=body)).raise_for_status()
    history = f"{url}/history/{body['prompt_id']}"
    while not (entries := (await http.get(history)).json()):  # noqa: ASYNC110 - only asking tells
        await asyncio.sleep(POLL_S)
    queries = files_of(entries[body["prompt_id"]])
    return [(await http.get(f"{url}/view", params=query)).content for query in queries]
