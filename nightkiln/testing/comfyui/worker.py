"""Runs prompts one after another, as ComfyUI's only worker thread does."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass

from nightkiln.core.model import Graph
from nightkiln.testing.comfyui.execution import Bench, Execution
from nightkiln.testing.comfyui.faults import FaultPlan
from nightkiln.testing.comfyui.queue import HISTORY_MAX, Item, PromptQueue, WorkerDied
from nightkiln.testing.comfyui.reports import Report
from nightkiln.testing.comfyui.sockets import Hub

HISTORY_LAG_S = 0.002  # the websocket tells of success before the history knows


@dataclass(frozen=True, slots=True)
class Render:
    """One prompt that was executed."""

    prompt_id: str
    graph: Graph
    ending: str  # execution_success | execution_error | execution_interrupted
    ran: tuple[str, ...]  # node ids; what the others gave came from the cache
    started_s: float  # loop time at which it was taken from the queue
    finished_s: float  # and at which the history had it; until then nothing else could run


class Worker:
    """Takes prompts from the queue until it dies."""

    def __init__(self, queue: PromptQueue, hub: Hub, bench: Bench, plan: FaultPlan) -> None:
        self._queue, self._hub, self._bench, self._plan = queue, hub, bench, plan
        self.renders: deque[Render] = deque(maxlen=HISTORY_MAX)

    async def run(self) -> None:
        """Work for ever; returns when the "thread" dies."""
        with contextlib.suppress(WorkerDied):
            while True:
                await self._execute(await self._queue.get())

    async def _execute(self, item: Item) -> None:
        faults = self._plan.next_executed(item[2])
        if "die" in faults:
            self._bench.die()
        if faults & {"die", "worker-thread-death"}:
            raise WorkerDied
        self._bench.interrupt.clear()
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        report = Report(self._hub, item)
        self._hub.client_id = report.client_id
        execution = Execution(self._bench, report, item, faults=faults, number=self._plan.executed)
        await execution.run()
        await asyncio.sleep(HISTORY_LAG_S)
        self._queue.finish(None if "forget" in faults else report.entry())
        report.over()
        ran = tuple(execution.ran)
        done = Render(item[1], item[2], report.ending, ran, started_s, loop.time())
        self.renders.append(done)
