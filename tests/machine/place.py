"""A machine to stay on, and a road to it that can be cut."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from nightkiln.core.errors import WorkerLost
from nightkiln.core.model import AttemptId, BoundJob, JobId, Kind, Lease, LeaseId, Need, Offer
from nightkiln.machine.goods import Goods
from nightkiln.machine.keys import BatchKeys
from nightkiln.machine.rendering import rendering
from nightkiln.machine.scripts import start_script
from nightkiln.machine.stay import Address, ArrivalLimits, LinkLimits, Stay
from nightkiln.testing.market import AttemptTruth
from nightkiln.testing.samples import text_to_image
from nightkiln.testing.vast_market.body import Box
from nightkiln.testing.vast_market.ssh_body import SshBodies, SshBody

GPU = "RTX 4090"
QUICK = ArrivalLimits(
    cuda_min=12.0,
    disk_gb=40.0,
    armed_s_max=10.0,
    look_s=0.05,
    renew_s=0.05,
    link=LinkLimits(
        connect_s_max=2.0,
        retry_s=0.1,
        broken_s=6.0,
        reconnect_s_max=60.0,  # a process starts meanwhile, as at a reboot
        keepalive_s=0.3,
        keepalives_max=2,
    ),
)
OFFER = Offer(
    "market", "offer-1", gpu=GPU, vram_gb=24, startup_s=60.0, kind=Kind.ON_DEMAND,
    usd_per_hour=Decimal("0.30"),
)  # fmt: skip


@dataclass
class Road:
    """Relays connections to a port, for as long as it is open."""

    to: int
    port: int = 0
    bytes_per_s: float | None = None  # towards us; None: as fast as it goes
    cut_after_bytes: int | None = None  # towards the machine, once
    cut_after_bytes_out: int | None = None  # towards us, once
    is_open: bool = True
    is_silent: bool = False
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Road]:
        server = await asyncio.start_server(self._meet, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Reset everybody who is on it, and let nobody on."""
        self.is_open = False
        for writer in self._writers:
            writer.transport.abort()

    def mend(self) -> None:
        self.is_open, self.is_silent = True, False

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            if self.is_open:
                await self._join(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # the machine is down, or the road was cut, or is closed
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inside, outside = await asyncio.open_connection("127.0.0.1", self.to)
        self._writers.add(outside)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, outside, is_in=True))
                group.create_task(self._carry(inside, writer, is_in=False))
        except* OSError:
            pass
        finally:
            self._writers.discard(outside)
            outside.transport.abort()

    async def _carry(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_in: bool
    ) -> None:
        left = "cut_after_bytes" if is_in else "cut_after_bytes_out"
        while piece := await source.read(64 * 1024):
            if self.is_silent:
                continue
            if (bytes_left := getattr(self, left)) is not None:
                is_spent = bytes_left < len(piece)
                setattr(self, left, None if is_spent else bytes_left - len(piece))
                if is_spent:
                    raise ConnectionResetError
            if not is_in and self.bytes_per_s is not None:
                await asyncio.sleep(len(piece) / self.bytes_per_s)
            sink.write(piece)
            await sink.drain()
        raise ConnectionResetError


@dataclass
class Place:
    """One rented machine, the road to it, and what a provider knows of it."""

    body: SshBody
    road: Road
    keys: BatchKeys
    folder: Path
    told: list[tuple[str, Mapping[str, object]]] = field(default_factory=list)
    expires_s: float = field(default_factory=lambda: time.time() + 3600)

    def stay(self, *, goods: Goods | None = None, **changes: Any) -> Stay:
        startup_s = changes.pop("startup_s", OFFER.startup_s)

        async def where() -> Address | None:
            return Address("127.0.0.1", self.road.port)

        basis: dict[str, Any] = {
            "lease": Lease(LeaseId("night-1-lease-001"), replace(OFFER, startup_s=startup_s)),
            "need": Need(vram_gb=20),
            "where": where,
            "keys": self.keys,
            "pin": self.folder / "pins" / "night-1-lease-001",
            "goods": goods if goods is not None else Goods(),
            "expires_s": lambda: self.expires_s,
            "loading_s": lambda: 12.5,
            "limits": QUICK,
            "tell": lambda stage, facts: self.told.append((stage, facts)),
        }
        return Stay(**(basis | changes))

    @property
    def ours(self) -> Path:
        """The folder of ours on the machine."""
        return self.body.home / ".nightkiln"

    def stages(self) -> list[str]:
        return [stage for stage, _ in self.told]

    def beat(self) -> tuple[int, int]:
        sequence, remaining = (self.ours / "heartbeat").read_text().split()
        return int(sequence), int(remaining)


@asynccontextmanager
async def place(
    folder: Path,
    *,
    trouble: frozenset[str] = frozenset(),
    seconds_per_job: float = 0.05,
    **truth: Any,
) -> AsyncIterator[Place]:
    """A machine that has booted, or is about to; ``truth`` is what it really is like."""
    keys = BatchKeys.of(folder / "keys", "night")
    variables = {
        "NK_KEY": keys.public,
        "NK_API": "http://127.0.0.1:9",  # nobody: it is never to be asked
        "NK_LIFE_S": "3600",
        "NK_QUIET_S": "900",
        "NK_TICK_S": "0.2",
        "CONTAINER_ID": "7",
        "CONTAINER_API_KEY": "k",
    }
    box = Box(
        contract=7,
        image="comfy",
        env=variables,
        onstart=start_script(),
        api_url=variables["NK_API"],
        api_key="k",
        gpu=f"NVIDIA GeForce {GPU}",
        gpu_mb=24_564,
        gpu_free_mb=24_200,
        cuda="12.8",
        disk_gb=40.0,
        mbps=500.0,
        seconds_per_job=seconds_per_job,
        app_s=0.1,
        trouble=trouble,
        attempt=_not_asked,
    )
    async with SshBodies(folder / "machines") as bodies:
        body = bodies(replace(box, **truth))
        assert isinstance(body, SshBody)
        async with Road(await body.start()).opened() as road:
            yield Place(body, road, keys, folder)


def _not_asked(job_id: str, number: int) -> AttemptTruth:
    raise AssertionError(f"the fate of {job_id}, try {number}, is nobody's business here")


def open_files() -> int:
    """Of this process: sockets are files."""
    return len(os.listdir("/proc/self/fd"))


def job(seed: int = 1) -> BoundJob:
    graph = text_to_image()
    graph["5"]["inputs"]["seed"] = seed
    return BoundJob(id=JobId(f"{seed:064x}"), graph=graph)


def attempt(number: int = 1) -> AttemptId:
    return AttemptId(f"night-1-{number:07d}")


async def loss_of(
    stay: Stay, happens: Callable[[], Awaitable[None]], *, within_s: float = 60.0
) -> WorkerLost:
    """What ends a stay when something happens to its machine, whose worker does nothing."""

    async def stay_on() -> None:
        async with rendering(stay), asyncio.timeout(within_s):
            await happens()
            await asyncio.Event().wait()

    with pytest.raises(WorkerLost) as lost:
        await stay_on()
    return lost.value
