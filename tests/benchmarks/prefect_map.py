"""A Prefect task run per prompt, as one would first write it: ``.map`` over the catalog.

``sync`` maps a blocking task, ``async`` a coroutine; both do what the bare loop does.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.benchmarks.bare import POLL_S, files_of, picture, request
from tests.benchmarks.child import measured
from tests.benchmarks.fleet import IN_FLIGHT

RECORDED_S_MAX = 120.0
RECORDED_POLL_S = 0.5


def render(urls: Sequence[str], jobs: int, folder: str, kind: str) -> dict[str, float]:
    """Render ``jobs`` pictures into ``folder``; what it cost, without the server's start and CPU.

    ``recorded_s`` is how long it took until Prefect's database showed every task run as completed:
    what is not on record then is rendered again after a crash.
    """
    with tempfile.TemporaryDirectory() as home:
        for name in ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_PROFILE"):
            os.environ.pop(name, None)
        os.environ |= {
            "PREFECT_HOME": home,
            "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_LOGGING_LEVEL": "CRITICAL",
            "DO_NOT_TRACK": "1",
        }
        with httpx.Client(trust_env=False) as http:
            work = {"sync": _blocking(http, Path(folder)), "async": _coroutine(Path(folder))}[kind]
            return _map(work, urls, jobs)


def _map(work: Callable[[str, int], Any], urls: Sequence[str], jobs: int) -> dict[str, float]:
    from prefect import flow, task
    from prefect.task_runners import ThreadPoolTaskRunner

    runner: Any = ThreadPoolTaskRunner(max_workers=IN_FLIGHT * len(urls))
    mapped: Any = task(work)

    def batch() -> dict[str, float]:
        chosen = list(itertools.islice(itertools.cycle(urls), jobs))
        with measured() as recording:
            with measured() as spent:
                mapped.map(chosen, range(jobs)).result()
            _wait_until_recorded(jobs)
        cost = {"wall_s": spent.wall_s, "cpu_s": spent.cpu_s, "recorded_s": recording.wall_s}
        return {"jobs": jobs, **cost}

    cost: dict[str, float] = flow(task_runner=runner)(batch)()
    return cost


def _wait_until_recorded(jobs: int) -> None:
    from prefect import get_client

    completed = {"task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    give_up_s = time.monotonic() + RECORDED_S_MAX
    with get_client(sync_client=True) as client:
        while client.request("POST", "/task_runs/count", json=completed).json() < jobs:
            if time.monotonic() > give_up_s:
                raise RuntimeError(f"Prefect has not recorded {jobs} task runs")
            time.sleep(RECORDED_POLL_S)


def _blocking(http: httpx.Client, folder: Path) -> Callable[[str, int], None]:
    def rendered(url: str, number: int) -> None:
        body = request(number)
        http.post(f"{url}/prompt", json=body).raise_for_status()
        while not (entries := http.get(f"{url}/history/{body['prompt_id']}").json()):
            time.sleep(POLL_S)
        for n, query in enumerate(files_of(entries[body["prompt_id"]])):
            content = http.get(f"{url}/view", params=query).content
            (folder / f"{number}-{n}.png").write_bytes(content)

    return rendered


def _coroutine(folder: Path) -> Callable[[str, int], Any]:
    async def rendered(url: str, number: int) -> None:
        # Prefect gives every task run a loop of its own, so connections cannot be shared.
        async with httpx.AsyncClient(trust_env=False) as http:
            await picture(http, url, number, folder)

    return rendered
