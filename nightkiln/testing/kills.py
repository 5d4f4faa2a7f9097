"""Kills real controllers at chosen moments and looks at what the next run makes of it.

The workers are stand-ins in the test's own process and outlive every controller, as rented
machines do.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from nightkiln.core.model import Offer
from nightkiln.night import ALL_DONE
from nightkiln.store.claims import newest_claim
from nightkiln.store.store import Store
from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.samples import write_catalog

BATCH = "night"
RUN_S_MAX = 90.0
WORKERS = 2
IN_FLIGHT = WORKERS * Offer("", "").slots  # jobs that a crash may cost a second render
KILLED = -signal.SIGKILL

_VOLATILE_PARTS = re.compile(r"[0-9a-f]{32,}|[0-9]{6}|[0-9a-f]{2}/")


class NotWhole(AssertionError):
    """The store, or what it cost to make it, is not what was promised."""


@dataclass(slots=True)
class Scene:
    """One catalog, one store, two workers, and controllers that come and go."""

    folder: Path
    jobs: int
    shard_rows: int = 5
    render_s: float = 0.0
    crashes: int = 0
    servers: list[StandIn] = field(default_factory=list)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> Self:
        write_catalog(self.folder / "catalog", self.jobs)
        for _ in range(WORKERS):
            server = StandIn(render_s=self.render_s)
            self.servers.append(await self._stack.enter_async_context(server))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    @property
    def store(self) -> Path:
        """Where the results go."""
        return self.folder / "store"

    @property
    def renders(self) -> int:
        """Prompts that the workers have executed."""
        return sum(len(server.renders) for server in self.servers)

    def start(self, disk: str = "") -> subprocess.Popen[str]:
        """A controller process on the batch, with a disk as ``disk_from_spec`` reads it."""
        urls = [argument for s in self.servers for argument in ("--worker-url", s.url)]
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "nightkiln", "run", str(self.folder / "catalog")),
                *("--name", BATCH, "--store", str(self.store), "--json", *urls),
            ],
            env={
                **os.environ,
                "NIGHTKILN_DISK": disk,
                "NIGHTKILN_SHARD_ROWS": str(self.shard_rows),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    async def run(self, disk: str = "") -> int:
        """One controller to its end, however it comes; exit status, negative for a signal."""
        return (await ended(self.start(disk)))[0]

    async def crash(self, disk: str) -> None:
        """One controller that its disk kills; one that gets through is no crash."""
        status = await self.run(disk)
        if status == KILLED:
            self.crashes += 1
        elif status != ALL_DONE:
            raise NotWhole(f"{disk}: the controller ended with {status}")

    async def finish(self) -> None:
        """Run the batch to its end and look at everything.

        Raises:
            NotWhole: something is missing, double, damaged, or was made twice for nothing.
        """
        status, said = await ended(self.start())
        if status != ALL_DONE:
            raise NotWhole(f"the next run ended with {status}: {said}")
        await asyncio.to_thread(self.check)

    def check(self) -> None:
        """One row per job, every file as it was verified, nothing open, nothing wasted."""
        store = Store.open(str(self.store))
        with store.connect() as con:
            ((rows, ids, done),) = con.execute(
                "select count(*), count(distinct job_id), count(*) filter (status = 'done') "
                "from jobs"
            ).fetchall()
            ((raw,),) = con.execute("select count(*) from _results").fetchall()
            files = con.execute("select uri, sha256, bytes from outputs").fetchall()
        if (rows, ids, done, raw) != (self.jobs,) * 4:
            raise NotWhole(
                f"{rows} rows, {ids} jobs, {done} done, {raw} committed; {self.jobs} wanted"
            )
        for uri, sha256, size in files:
            data = (self.store / uri).read_bytes()
            if (hashlib.sha256(data).hexdigest(), len(data)) != (sha256, size):
                raise NotWhole(f"{uri} is not the file that was verified")
        claim = newest_claim(store.blobs, BATCH)
        if claim is None or claim.ended is None:
            raise NotWhole("the last run has not given its claim back")
        allowed = self.jobs + IN_FLIGHT * self.crashes
        if self.renders > allowed:
            raise NotWhole(f"{self.renders} renders where {allowed} would do")


async def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit status and the end of what was printed; one that takes too long is killed."""
    try:
        said, _ = await asyncio.to_thread(process.communicate, timeout=RUN_S_MAX)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return process.returncode, said[-2000:]


async def durable_effects(folder: Path, jobs: int, *, shard_rows: int = 5) -> list[str]:
    """The names of all durable effects of one undisturbed night, in order."""
    counted = folder / "effects"
    async with Scene(folder, jobs, shard_rows) as scene:
        status = await scene.run(f"count={counted}")
        if status != ALL_DONE:
            raise NotWhole(f"an undisturbed night ended with {status}")
        scene.check()
    lines = await asyncio.to_thread(counted.read_text)
    return [line.partition(" ")[2] for line in lines.splitlines()]


def kind_of(effect: str) -> str:
    """An effect without the parts of its path that differ from night to night."""
    verb, _, path = effect.partition(" ")
    inside = path.partition("/store/")[2]
    return f"{verb} {_VOLATILE_PARTS.sub('*', inside).split('/')[0]}"


def one_of_each(effects: Sequence[str]) -> list[int]:
    """Step numbers, from 1: the middle occurrence of every kind of effect."""
    steps: dict[str, list[int]] = {}
    for step, effect in enumerate(effects, 1):
        steps.setdefault(kind_of(effect), []).append(step)
    return sorted(found[len(found) // 2] for found in steps.values())


def histogram(hits: Iterable[str]) -> str:
    """How often which kind of effect was hit, for people."""
    counts = Counter(kind_of(hit) for hit in hits)
    return "\n".join(f"{count:4d}  {kind}" for kind, count in sorted(counts.items()))
