"""One container: found a GPU, started, given inputs, ended. Its process is real."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from math import inf
from pathlib import Path

from grpclib.server import Server
from modal_proto import api_pb2 as pb

from nightkiln.testing.modal.billing import Meter, Phase, Size
from nightkiln.testing.modal.calls import Input
from nightkiln.testing.modal.fault_kinds import START, Crashes, NeverUp, NextGpu, Play, Slow
from nightkiln.testing.modal.functions import Function, asked, choices, gpu_of
from nightkiln.testing.modal.ground import Ground
from nightkiln.testing.modal.ids import number_of
from nightkiln.testing.modal.nursery import Order, Process
from nightkiln.testing.modal.wire import Answering, Wire

CLOUD, REGION = "CLOUD_PROVIDER_FAKE", "loopback"
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")  # of this process's


class Container:
    """``live`` is its whole life; ``end`` cuts it short."""

    def __init__(self, ground: Ground, function: Function, on_up: Callable[[], None]) -> None:
        self._ground, self._on_up = ground, on_up
        self.container_id, self.created_at_s = ground.ids.new("ta"), ground.clock.wall_s
        self.function, self.definition = function, function.definition
        self.plays: list[Play] = ground.faults.striking(START)
        self.made_of = _choice(choices(function), self.plays)
        needs = asked(function)
        self.size = Size(gpu_of(self.made_of), needs.cores, needs.gib)
        self.meter = Meter(self.container_id, function.app_id, self.size, self.created_at_s)
        self.item: Input | None = None  # that it works on
        self.asking: asyncio.Future[Input | None] | None = None  # it waits for an input
        self.idle_since_s = inf  # of the story
        self.is_draining = False  # takes no further input
        self.was_up = False
        self.unwanted: Input | None = None  # an input that it is to stop working on
        self.told = asyncio.Event()  # there is something to say at its next heartbeat
        self.trouble: pb.GenericResult | None = None  # why it could not start
        self.process: Process | None = None
        self.comfy_url = ""
        self.task: asyncio.Task[None] | None = None

    @property
    def phase(self) -> Phase:
        return self.meter.phase

    @property
    def is_asking(self) -> bool:
        """It waits for an input, and lives."""
        return self.phase is not Phase.ENDED and self.asking is not None and not self.asking.done()

    @property
    def is_coming(self) -> bool:
        """It will ask for an input by itself: it starts, or has just given back its last one."""
        is_between = self.phase is Phase.IDLE and self.item is None and not self.is_asking
        return is_between or self.phase in {Phase.QUEUED, Phase.STARTING}

    @property
    def log(self) -> Path:
        """What it has printed."""
        return self._ground.folder / f"{self.container_id}.log"

    def turn(self, phase: Phase) -> None:
        """From here on it does this. What has ended stays so."""
        if self.phase is not Phase.ENDED:
            self.meter.turn(phase, self._ground.clock.wall_s)

    def end(self) -> None:
        """Take it away at once; billed until now."""
        self.turn(Phase.ENDED)
        if self.task is not None:
            self.task.cancel()

    def freeze(self) -> None:
        """It stops where it is, and is billed on."""
        if self.process is not None:
            self.process.send(signal.SIGSTOP)

    async def live(self, answering: Answering) -> None:
        """From the search for a GPU until its process has ended."""
        ground, number = self._ground, number_of(self.container_id)
        await ground.clock.sleep(ground.drawn(f"{number}/queue", ground.rules.queue_s))
        await ground.nursery.ready()
        self.turn(Phase.STARTING)
        self._on_up()
        slow = [play.times for play in self.plays if isinstance(play, Slow)]
        await ground.clock.sleep(
            ground.drawn(f"{number}/cold", ground.rules.cold_s) * max(slow, default=1.0)
        )
        for play in self.plays:
            if isinstance(play, Crashes):
                self.trouble = _crash(play.says)
                return
            if isinstance(play, NeverUp):
                await ground.clock.sleep(inf)
        async with AsyncExitStack() as stack:
            url = await stack.enter_async_context(self._listening(answering))
            environment = self._environment(url)
            if ground.comfy is not None:
                comfy = await stack.enter_async_context(ground.comfy(self.size.gpu))
                self.comfy_url = environment["COMFYUI_URL"] = comfy.url
            home = ground.home_of(self.definition)
            order = Order(self.container_id, environment, home, self.log)
            self.process = await ground.nursery.begin(order)
            stack.push_async_callback(self.process.end)
            await self.process.wait()

    @asynccontextmanager
    async def _listening(self, answering: Answering) -> AsyncIterator[str]:
        """An endpoint of its own, so that a container is known by the door that it comes to."""
        path = self._ground.folder / f"{self.container_id[-6:]}.sock"
        server = Server([Wire(answering)])
        await server.start(path=str(path))
        try:
            yield f"unix:{path}"
        finally:
            server.close()
            await server.wait_closed()
            path.unlink(missing_ok=True)

    def _environment(self, url: str) -> dict[str, str]:
        arguments = self._ground.folder / f"{self.container_id}.arguments"
        arguments.write_bytes(self._arguments().SerializeToString())
        ours = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        return {
            **ours,
            **self._ground.environment_of(self.made_of),
            **self._ground.rules.environment,
            "MODAL_CONTAINER_ARGUMENTS_PATH": str(arguments),
            "MODAL_CLOUD_PROVIDER": CLOUD,
            "MODAL_CONFIG_PATH": "/nonexistent/modal.toml",
            "MODAL_ENVIRONMENT": self._ground.apps[self.function.app_id].environment,
            "MODAL_IMAGE_ID": self.made_of.image_id,
            "MODAL_IS_REMOTE": "1",
            "MODAL_REGION": REGION,
            "MODAL_SERVER_URL": url,
            "MODAL_TASK_ID": self.container_id,
        }

    def _arguments(self) -> pb.ContainerArguments:
        app = self._ground.apps[self.function.app_id]
        layout = self._ground.directory.layout(app)
        known = {one.object_id for one in layout.objects}
        for dependency in self.made_of.object_dependencies:
            if dependency.object_id not in known:
                layout.objects.append(self._ground.objects.described(dependency.object_id))
        return pb.ContainerArguments(
            task_id=self.container_id,
            function_id=self.function.function_id,
            app_id=app.app_id,
            function_def=self.made_of,
            serialized_params=self.function.params,
            environment_name=app.environment,
            app_layout=layout,
        )


def _choice(gpus: tuple[pb.Function, ...], plays: list[Play]) -> pb.Function:
    """The first GPU of the list that is to be had."""
    missing = sum(isinstance(play, NextGpu) for play in plays)
    return gpus[min(missing, len(gpus) - 1)]


def _crash(says: str) -> pb.GenericResult:
    return pb.GenericResult(status=pb.GenericResult.GENERIC_STATUS_INIT_FAILURE, exception=says)
