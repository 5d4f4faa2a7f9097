"""Kills real controllers at chosen moments and looks at what the next run makes of it.

The workers are stand-ins in the test's own process and outlive every controller, as rented
machines do.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from nightkiln.blobs.s3_place import S3Access
from nightkiln.core.model import Offer
from nightkiln.night import ALL_DONE
from nightkiln.store.store import Store
from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.disk import place_of
from nightkiln.testing.promises import broken_promises
from nightkiln.testing.samples import write_catalog

BATCH = "night"
RUN_S_MAX = 90.0
SAID_CHARS_MAX = 100_000  # a night on a busy computer tells its progress many times
WORKERS = 2
IN_FLIGHT = WORKERS * Offer("", "").slots  # jobs that a crash may cost a second render
KILLED = -signal.SIGKILL


class NotWhole(AssertionError):
    """The store, or what it cost to make it, is not what was promised."""


@dataclass(slots=True)
class Scene:
    """One catalog, one store, two workers, and controllers that come and go."""

    folder: Path
    jobs: int
    shard_rows: int = 5
    render_s: float = 0.0
    batch: str = BATCH
    place: str = ""  # of the store; "": a folder beside the catalog
    access: S3Access | None = None  # to a store that is no folder
    environment: Mapping[str, str] = field(default_factory=dict)  # of every controller
    crashes: int = 0
    servers: list[StandIn] = field(default_factory=list)
    _started: list[subprocess.Popen[str]] = field(default_factory=list)
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
        for process in self._started:  # those that a failed test did not see to their end
            process.kill()
            process.communicate()

    @property
    def store(self) -> Path:
        """Where the results go."""
        return self.folder / "store"

    def opened(self) -> Store:
        """The store, for who looks at it."""
        place = self.place or str(self.store)
        return Store.open(place, s3=self.access, state=self.folder / "state")

    @property
    def renders(self) -> int:
        """Prompts that the workers have executed."""
        return sum(len(server.renders) for server in self.servers)

    def start(self, disk: str = "", *, timezone: str = "UTC") -> subprocess.Popen[str]:
        """A controller process on the batch, with a disk as ``disk_from_spec`` reads it."""
        urls = [argument for s in self.servers for argument in ("--worker-url", s.url)]
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "nightkiln", "run", str(self.folder / "catalog")),
                *("--name", self.batch, "--store", self.place or str(self.store), "--json", *urls),
            ],
            env={
                **{name: value for name, value in os.environ.items() if "NIGHTKILN" not in name},
                "NIGHTKILN_DISK": disk,
                "NIGHTKILN_TIMEZONE": timezone,
                "NIGHTKILN_SHARD_ROWS": str(self.shard_rows),
                "NIGHTKILN_STATE": str(self.folder / "state"),
                **self.environment,
            },
            cwd=self.folder,  # where no nightkiln.toml lies
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._started.append(process)
        return process

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

    async def again(self) -> None:
        """The same command once more, on a batch that is done, changes nothing.

        Raises:
            NotWhole: it did.
        """
        before = await asyncio.to_thread(self._results)
        await self.finish()
        if await asyncio.to_thread(self._results) != before:
            raise NotWhole("a run of a finished batch committed something")

    def check(self) -> None:
        """One row per job, every file as it was verified, nothing open, nothing wasted."""
        broken = broken_promises(self.opened(), self.batch, jobs=self.jobs)
        allowed = self.jobs + IN_FLIGHT * self.crashes
        if self.renders > allowed:
            broken.append(f"{self.renders} renders where {allowed} would do")
        if broken:
            raise NotWhole("; ".join(broken))

    def _results(self) -> list[str]:
        return list(self.opened().blobs.list("results/"))


async def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit status and the end of what was printed; one that takes too long is killed."""
    try:
        said, _ = await asyncio.to_thread(process.communicate, timeout=RUN_S_MAX)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return process.returncode, said[-SAID_CHARS_MAX:]


async def durable_effects(folder: Path, jobs: int, *, shard_rows: int = 5) -> list[str]:
    """The names of all durable effects of one undisturbed night, in order."""
    counted = folder / "effects"
    async with Scene(folder, jobs, shard_rows) as scene:
        status = await scene.run(f"count={counted}")
        if status != ALL_DONE:
            raise NotWhole(f"an undisturbed night ended with {status}")
        scene.check()
    return await asyncio.to_thread(effects_in, counted)


def effects_in(counted: Path) -> list[str]:
    """The names of the effects that a disk wrote to ``count=counted``; none if there is no file."""
    lines = counted.read_text().splitlines() if counted.exists() else []
    return [line.partition(" ")[2] for line in lines]


def phase_of(effects: Sequence[str]) -> str:
    """How far a run had come that had these effects."""
    if not effects:
        return "starting"
    if not any(effect.startswith("open_log ") for effect in effects):
        return "opening the store, claiming, planning"
    rows = (effect for effect in effects if "/leases/dt=" in effect)
    if all("/dt=1970-" in row for row in rows):  # the schema's, written with the store
        return "rendering"
    return "releasing, last commit, closing"


def one_of_each(effects: Sequence[str]) -> list[str]:
    """The middle occurrence of every kind of effect, as ``disk_from_spec`` takes it."""
    counts = Counter(place_of(effect) for effect in effects)
    return [f"{place}:{count // 2 + 1}" for place, count in sorted(counts.items())]


def histogram(hits: Iterable[str]) -> str:
    """How often which kind of effect was hit, for people."""
    counts = Counter(place_of(hit) for hit in hits)
    return "\n".join(f"{count:4d}  {kind}" for kind, count in sorted(counts.items()))
