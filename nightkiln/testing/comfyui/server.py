"""Starts and stops the stand-in."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from aiohttp import web

from nightkiln.testing.comfyui.definitions import CHECKPOINTS, node_definitions
from nightkiln.testing.comfyui.execution import Bench
from nightkiln.testing.comfyui.faults import FaultPlan
from nightkiln.testing.comfyui.files import Files
from nightkiln.testing.comfyui.outputs import Saver
from nightkiln.testing.comfyui.pictures import Painter
from nightkiln.testing.comfyui.queue import PromptQueue
from nightkiln.testing.comfyui.routes import Routes
from nightkiln.testing.comfyui.sockets import Hub
from nightkiln.testing.comfyui.worker import Render, Worker

HOST = "127.0.0.1"  # never anything else: like ComfyUI, it has no authentication
SHUTDOWN_S = 0.1  # for requests that are under way
KILLED = 137  # exit status of a process that ended by SIGKILL


class StandIn:
    """A loopback server that answers as ComfyUI 0.3.75 does.

    ::

        async with StandIn(render_s=0.05, faults=["corrupt@3"]) as server:
            ...  # server.url
        assert len(server.renders) == 24

    ``faults`` are those of ``faults.FAULTS``. ``ends_process`` makes dying real.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        render_s: float = 0.0,
        size_mb: float = 0.0,
        faults: Iterable[str] = (),
        gpu_name: str = "cpu",
        checkpoints: Iterable[str] = CHECKPOINTS,
        ends_process: bool = False,
    ) -> None:
        self._port, self._ends_process = port, ends_process
        self.files = Files()
        plan = FaultPlan.of(faults)
        self._hub = Hub(lambda: self._queue.remaining)
        self._queue = PromptQueue(self._hub.status)
        present = tuple(checkpoints)
        definitions = node_definitions(present)
        saver = Saver(self.files, Painter(size_mb))
        bench = Bench(self.files, saver, definitions, render_s, self.die)
        self._worker = Worker(self._queue, self._hub, bench, plan)
        self._routes = Routes(
            self._queue,
            self._hub,
            bench,
            plan,
            definitions=definitions,
            checkpoints=present,
            gpu_name=gpu_name,
        )
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def url(self) -> str:
        assert self._runner is not None, "not started"
        return f"http://{HOST}:{self._port}"

    @property
    def submitted(self) -> list[str]:
        """Ids of the prompts that were accepted, in order."""
        return self._routes.submitted

    @property
    def renders(self) -> list[Render]:
        """The prompts that were executed, in order; the newest 10,000."""
        return list(self._worker.renders)

    async def idle(self) -> None:
        """Wait until nothing is queued or running; for ever, if the worker has died."""
        await self._queue.idle.wait()

    async def __aenter__(self) -> Self:
        self._runner = web.AppRunner(
            self._routes.application(),
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=SHUTDOWN_S,
        )
        await self._runner.setup()
        assert self._runner.server is not None, "set up"
        loop = asyncio.get_running_loop()
        # A site of aiohttp's would not let go of its socket at once, as dying must.
        self._listener = await loop.create_server(self._runner.server, HOST, self._port)
        self._port = self._listener.sockets[0].getsockname()[1]
        self._tasks = [
            asyncio.create_task(self._worker.run()),
            asyncio.create_task(self._hub.publish()),
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._runner is not None, "not started"
        for task in self._tasks:
            task.cancel()
        outcomes = await asyncio.gather(*self._tasks, return_exceptions=True)
        assert self._listener is not None, "not started"
        self._listener.close()
        await self._hub.close()
        await self._runner.cleanup()
        for outcome in outcomes:
            if isinstance(outcome, Exception):  # ours: a mistake in the stand-in
                raise outcome

    def die(self) -> None:
        """End as by ``kill -9``: at once, without a word to anybody."""
        if self._ends_process:
            os._exit(KILLED)
        assert self._runner is not None, "not started"
        assert self._listener is not None, "not started"
        self._listener.close()
        for connection in self._runner.server.connections if self._runner.server else ():
            if connection.transport is not None:
                connection.transport.abort()
