"""Processes of containers: begun by the zygote, watched and ended from here."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("zygote.py")
READY_S_MAX = 120.0  # of the wall, until the SDK is imported
STOP_S_MAX = 10.0
LINE_BYTES_MAX = 1024 * 1024
# What the environment of this process may hold that an import of the SDK would believe.
HIDDEN = ("MODAL_", "PYTHON")


@dataclass(frozen=True, slots=True)
class Order:
    """A process to begin."""

    container_id: str
    environment: Mapping[str, str]  # all of it
    folder: Path  # where it begins, and the first place where it looks for modules
    log: Path


class Process:
    """A container's process."""

    def __init__(self, pid: int, ended: asyncio.Future[int]) -> None:
        self.pid = pid
        self._ended = ended

    async def wait(self) -> int:
        """Its exit status; negative: the signal that ended it."""
        return await asyncio.shield(self._ended)

    def send(self, number: signal.Signals) -> None:
        """A signal to it and to all that it has started."""
        if not self._ended.done():
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def end(self) -> None:
        """Take it away, as a preemption does."""
        self.send(signal.SIGKILL)
        await self.wait()


class Nursery:
    """The zygote and what it has begun; started when it is first needed."""

    def __init__(self) -> None:
        self._zygote: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[None] | None = None
        self._started: dict[str, asyncio.Future[int]] = {}
        self._ended: dict[str, asyncio.Future[int]] = {}

    async def ready(self) -> None:
        """Until a container can be begun in a moment.

        Raises:
            TimeoutError: the SDK could not be imported in time.
        """
        if self._ready is None:
            loop = asyncio.get_running_loop()
            self._ready = loop.create_future()
            self._zygote = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                str(PROGRAM),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=_plain_environment(),
                limit=LINE_BYTES_MAX,
            )
            self._listening = loop.create_task(self._listen(self._zygote))
        async with asyncio.timeout(READY_S_MAX):
            await asyncio.shield(self._ready)

    async def begin(self, order: Order) -> Process:
        """Begin a container's process."""
        await self.ready()
        assert self._zygote is not None
        assert self._zygote.stdin is not None
        loop = asyncio.get_running_loop()
        started = self._started[order.container_id] = loop.create_future()
        ended = self._ended[order.container_id] = loop.create_future()
        told = {
            "id": order.container_id,
            "environment": dict(order.environment),
            "folder": str(order.folder),
            "log": str(order.log),
        }
        self._zygote.stdin.write(json.dumps(told).encode() + b"\n")
        await self._zygote.stdin.drain()
        return Process(await asyncio.shield(started), ended)

    async def stop(self) -> None:
        """End the zygote, and with it all that it has begun."""
        if self._zygote is None or self._listening is None:
            return
        assert self._zygote.stdin is not None
        self._zygote.stdin.close()
        try:
            async with asyncio.timeout(STOP_S_MAX):
                await self._zygote.wait()
        except TimeoutError:
            self._zygote.kill()
            await self._zygote.wait()
        await self._listening

    async def _listen(self, zygote: asyncio.subprocess.Process) -> None:
        assert zygote.stdout is not None
        assert self._ready is not None
        while line := await zygote.stdout.readline():
            event: dict[str, Any] = json.loads(line)
            match event["event"]:
                case "ready":
                    self._ready.set_result(None)
                case "started":
                    self._started.pop(event["id"]).set_result(event["pid"])
                case "ended":
                    self._ended.pop(event["id"]).set_result(event["status"])
        for ended in self._ended.values():  # they went with the zygote
            ended.set_result(-signal.SIGKILL)
        if not self._ready.done():
            self._ready.set_exception(RuntimeError("the modal SDK cannot be imported"))


def _plain_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(HIDDEN)}
    return {**kept, "MODAL_CONFIG_PATH": os.devnull + "/none", "MODAL_IS_REMOTE": "1"}
