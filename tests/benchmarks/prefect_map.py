"""A Prefect task run per prompt, as somebody who knows Prefect writes it: ``.map`` over the rows.

Each task run does what nightkiln does for a job: submits, waits, downloads, checks the picture,
writes it durably, and returns its row. Prefect keeps that row (``persist_result``), under the
prompt's number, so that a killed run goes on where it was; in the end all rows become one Parquet
file. ``async`` maps a coroutine, the bare loop's own, ``sync`` a blocking task in threads. The
settings are Prefect's defaults.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.benchmarks.bare import POLL_S, files_of, pictures, request
from tests.benchmarks.child import measured
from tests.benchmarks.fleet import IN_FLIGHT

RECORDED_S_MAX = 240.0
RECORDED_POLL_S = 0.5

Row: TypeAlias = dict[str, Any]


def render(urls: Sequence[str], jobs: int, folder: str, kind: str) -> dict[str, float]:
    """Render ``jobs`` pictures into ``folder``; what it cost, without the server's start and CPU.

    ``wall_s`` is until all rows are in the Parquet file. ``recorded_s`` is until Prefect's database
    shows every task run as completed, or until patience ends; ``recorded`` are those that it shows.
    ``server_cpu_s`` is what Prefect's server has used from the first task run until then.
    """
    with tempfile.TemporaryDirectory() as home:
        for name in ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_PROFILE"):
            os.environ.pop(name, None)
        os.environ |= {
            "PREFECT_HOME": home,
            "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        }
        with httpx.Client(trust_env=False) as http:
            work = {"sync": _blocking(http, Path(folder)), "async": _coroutine(Path(folder))}[kind]
            return _map(work, urls, jobs, Path(folder))


def _map(
    work: Callable[[str, int], Any], urls: Sequence[str], jobs: int, folder: Path
) -> dict[str, float]:
    from prefect import flow, task
    from prefect.cache_policies import INPUTS
    from prefect.task_runners import ThreadPoolTaskRunner

    runner: Any = ThreadPoolTaskRunner(max_workers=IN_FLIGHT * len(urls))
    # Whichever worker rendered it, a picture is not rendered again.
    mapped: Any = task(persist_result=True, cache_policy=INPUTS - "url")(work)

    def batch() -> dict[str, float]:
        chosen = list(itertools.islice(itertools.cycle(urls), jobs))
        before_s = _children_cpu_s()
        with measured() as recording:
            with measured() as spent:
                rows = itertools.chain.from_iterable(mapped.map(chosen, range(jobs)).result())
                pq.write_table(pa.Table.from_pylist(list(rows)), folder / "results.parquet")
            recorded = _recorded(jobs)
        cost = {"wall_s": spent.wall_s, "cpu_s": spent.cpu_s, "recorded_s": recording.wall_s}
        server_cpu_s = _children_cpu_s() - before_s
        return {"jobs": jobs, "recorded": recorded, "server_cpu_s": server_cpu_s, **cost}

    cost: dict[str, float] = flow(task_runner=runner)(batch)()
    return cost


def _recorded(jobs: int) -> int:
    """The completed task runs in Prefect's database, once all are or patience ends."""
    from prefect import get_client

    completed = {"task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    give_up_s = time.monotonic() + RECORDED_S_MAX
    with get_client(sync_client=True) as client:
        while True:
            count = int(client.request("POST", "/task_runs/count", json=completed).json())
            if count >= jobs or time.monotonic() > give_up_s:
                return count
            time.sleep(RECORDED_POLL_S)


def _children_cpu_s() -> float:
    """What the processes that this one started, Prefect's server, have used so far."""
    ticks = 0
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in children.read_text().split():
            # After the name, which ends with the last bracket: state is field 3 of proc(5).
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])  # utime, stime
    return ticks / os.sysconf("SC_CLK_TCK")


def _blocking(http: httpx.Client, folder: Path) -> Callable[[str, int], list[Row]]:
    def rendered(url: str, number: int) -> list[Row]:
        body = request(number)
        http.post(f"{url}/prompt", json=body).raise_for_status()
        while not (entries := http.get(f"{url}/history/{body['prompt_id']}").json()):
            time.sleep(POLL_S)
        queries = files_of(entries[body["prompt_id"]])
        contents = (http.get(f"{url}/view", params=query).content for query in queries)
        return _landed(contents, number, folder)

    return rendered


def _coroutine(folder: Path) -> Callable[[str, int], Any]:
    context = httpx.create_ssl_context(trust_env=False)

    async def rendered(url: str, number: int) -> list[Row]:
        # Prefect gives every task run a loop of its own, so connections cannot be shared; the TLS
        # context can, and to make one is most of what a client costs.
        async with httpx.AsyncClient(verify=context, trust_env=False) as http:
            return _landed(await pictures(http, url, number), number, folder)

    return rendered


def _landed(contents: Iterable[bytes], number: int, folder: Path) -> list[Row]:
    """Check each picture and give it its name once it is on disk; a row for each."""
    rows = []
    for n, content in enumerate(contents):
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            width, height = image.size
        path, part = folder / f"{number}-{n}.png", folder / f"{number}-{n}.part"
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        digest = hashlib.sha256(content).hexdigest()
        facts = {"sha256": digest, "bytes": len(content), "width": width, "height": height}
        rows.append({"number": number, "path": str(path), **facts})
    return rows
