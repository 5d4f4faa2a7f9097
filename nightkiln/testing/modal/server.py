"""Starts and stops the fake, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from socket import create_server, socket
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self, TypeVar

from nightkiln.testing.modal import views
from nightkiln.testing.modal.billing import Billing
from nightkiln.testing.modal.blobs import HOST
from nightkiln.testing.modal.clock import Clock
from nightkiln.testing.modal.faults import plan_of
from nightkiln.testing.modal.front import Request
from nightkiln.testing.modal.objects import MAIN
from nightkiln.testing.modal.rules import TOKEN, Comfy, Rules
from nightkiln.testing.modal.service import Service
from nightkiln.testing.modal.views import CallSeen, ContainerSeen, Deployed

START_S_MAX = 30.0
STOP_S_MAX = 60.0
SPEED = 60.0

_Told = TypeVar("_Told")


class FakeModal:
    """A Modal on loopback that the real SDK cannot tell from the service.

    ::

        with FakeModal(speed=60, faults=["preempted"]) as modal:
            ...  # a process with modal.env() in its environment, or a client with its credentials
        assert modal.billing.usd < 1

    What is deployed to it runs: each container is a process in which the SDK's own entry point
    imports the files that were sent. It may be asked anything from any thread, also afterwards.
    """

    def __init__(
        self,
        *,
        seed: int = 1,
        speed: float = SPEED,
        faults: Iterable[str] = (),
        token: tuple[str, str] = TOKEN,
        rules: Rules | None = None,
        comfy: Comfy | None = None,
        port: int = 0,
    ) -> None:
        self.seed, self.speed, self.token = seed, speed, token
        self.rules = rules if rules is not None else Rules()
        self._faults = plan_of(str(seed))
        self._faults.add(faults)
        self._comfy, self._port = comfy, port
        self._stage: _Stage | None = None

    def env(self) -> dict[str, str]:
        """The environment in which the SDK, the ``modal`` command and nightkiln use it."""
        return {
            "MODAL_SERVER_URL": self.url,
            "MODAL_TOKEN_ID": self.token[0],
            "MODAL_TOKEN_SECRET": self.token[1],
            "MODAL_CONFIG_PATH": "/nonexistent/modal.toml",
            "MODAL_ENVIRONMENT": MAIN,
            "NO_PROXY": "127.0.0.1,localhost",
        }

    @property
    def url(self) -> str:
        assert self._port, "started"
        return f"http://{HOST}:{self._port}"

    @property
    def billing(self) -> Billing:
        """What was billed up to now, or all in all once it has ended."""
        return self._ask(lambda service: service.billing())

    @property
    def calls(self) -> Sequence[CallSeen]:
        """Every ``spawn``, ``remote`` and ``map``, in order."""
        return self._ask(
            lambda service: [
                views.call(one, service.apps[function.app_id], function)
                for one in service.calling
                for function in [service.registry[one.function_id]]
            ]
        )

    @property
    def containers(self) -> Sequence[ContainerSeen]:
        """Every container there ever was, in order."""
        return self._ask(
            lambda service: [
                views.container(one, service.apps[one.function.app_id])
                for one in service.pools.containers
            ]
        )

    @property
    def requests(self) -> Sequence[Request]:
        """Every call of the control plane; the newest 200,000."""
        return self._ask(lambda service: list(service.front.requests))

    @property
    def struck(self) -> dict[str, int]:
        """How often each fault struck."""
        return self._ask(lambda service: dict(service.faults.struck))

    def deployed(self, app: str, environment: str = MAIN) -> Deployed | None:
        """What was sent of an app that is deployed now; None: there is none of that name."""

        def look(service: Service) -> Deployed | None:
            found = service.apps.deployed(app, environment)
            if found is None:
                return None
            return views.deployed(found, service.registry, service.objects, service.sources)

        return self._ask(look)

    def add_faults(self, *specs: str) -> None:
        """Put more faults in force.

        Raises:
            BadInput: no such fault.
        """
        self._ask(lambda service: service.faults.add(specs))

    def lift_faults(self) -> None:
        """Nothing more goes wrong."""
        self._ask(lambda service: service.faults.clear())

    def skip(self, story_s: float) -> None:
        """So much of the story happens at this very moment."""
        self._ask(lambda service: service.clock.skip(story_s))

    def __enter__(self) -> Self:
        listening = create_server((HOST, self._port))
        self._port = listening.getsockname()[1]
        stage = self._stage = _Stage()
        stage.thread.start()
        try:
            stage.do(self._start(stage, listening), START_S_MAX)
        except BaseException:
            stage.end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        stage = self._begun
        try:
            stage.do(self._stop(stage), STOP_S_MAX)
        finally:
            stage.end()
        if stage.service.mistakes and error is None:
            raise ExceptionGroup("the fake Modal made mistakes", stage.service.mistakes)

    @property
    def _begun(self) -> _Stage:
        assert self._stage is not None, "started"
        return self._stage

    async def _start(self, stage: _Stage, listening: socket) -> None:
        clock = Clock(self.speed)
        stage.service = Service(
            Path(stage.folder.name),
            seed=self.seed,
            clock=clock,
            rules=self.rules,
            faults=self._faults,
            token=self.token,
            comfy=self._comfy,
        )
        await stage.service.start(listening)
        stage.keeping = asyncio.get_running_loop().create_task(clock.keep())

    async def _stop(self, stage: _Stage) -> None:
        try:
            await stage.service.stop()
        finally:
            stage.keeping.cancel()
            [outcome] = await asyncio.gather(stage.keeping, return_exceptions=True)
        if isinstance(outcome, Exception):
            raise outcome

    def _ask(self, question: Callable[[Service], _Told]) -> _Told:
        """Ask in the loop, where nothing changes meanwhile."""
        stage = self._begun
        if stage.loop.is_closed():
            return question(stage.service)

        async def ask(service: Service) -> _Told:
            return question(service)

        return stage.do(ask(stage.service), START_S_MAX)


class _Stage:
    """What there is of a fake once it is started: a loop in a thread of its own, and a folder."""

    service: Service
    keeping: asyncio.Task[None]

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="fake modal", daemon=True)
        self.folder = TemporaryDirectory(prefix="nk-modal-")

    def do(self, doing: Coroutine[Any, Any, _Told], within_s: float) -> _Told:
        """Have it done in the loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(doing, self.loop).result(within_s)

    def end(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(STOP_S_MAX)
        self.loop.close()
        self.folder.cleanup()
