"""All pools: one for each function, variant and pinned version that was ever called."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping

from google.protobuf.message import Message
from modal_proto import api_pb2 as pb

from nightkiln.testing.modal.calls import Input
from nightkiln.testing.modal.container import Container
from nightkiln.testing.modal.functions import Function, asked
from nightkiln.testing.modal.ground import Ground
from nightkiln.testing.modal.pool import Pool
from nightkiln.testing.modal.registry import Registry
from nightkiln.testing.modal.wire import Answer

STOP_S_MAX = 30.0  # until every container has ended


class Pools:
    """Finds the pool of a function, and what is true of all together."""

    def __init__(self, ground: Ground, registry: Registry) -> None:
        self._ground, self._registry = ground, registry
        self._pools: dict[str, Pool] = {}
        self._is_closing = False
        registry.listen(self._look)

    def of(self, function: Function) -> Pool:
        return self._pools.setdefault(
            function.function_id, Pool(self._ground, function, self._room)
        )

    def answers(self) -> Mapping[str, Answer]:
        return {"ContainerStop": self._stop_one, "TaskList": self._list}

    def __iter__(self) -> Iterator[Pool]:
        return iter(self._pools.values())

    @property
    def containers(self) -> list[Container]:
        """Every container there ever was, in order of their ids."""
        found = [one for pool in self for one in (*pool.past, *pool.containers.values())]
        return sorted(found, key=lambda one: one.container_id)

    def put(self, item: Input) -> None:
        self.of(self._registry[item.call.function_id]).put(item)

    async def stop(self) -> None:
        """End every container, and wait for that."""
        self._is_closing = True
        living = [one for pool in self for one in pool.containers.values()]
        for container in living:
            container.end()
        tasks = [one.task for one in living if one.task is not None]
        async with asyncio.timeout(STOP_S_MAX):
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _list(self, request: pb.TaskListRequest) -> Message:
        return pb.TaskListResponse(
            tasks=[
                pb.TaskStats(
                    task_id=one.container_id,
                    app_id=one.function.app_id,
                    started_at=one.meter.since_s,
                    enqueued_at=one.created_at_s,
                )
                for pool in self
                for one in pool.containers.values()
                if request.app_id in {"", one.function.app_id}
            ]
        )

    async def _stop_one(self, request: pb.ContainerStopRequest) -> Message:
        for pool in self:
            container = pool.containers.get(request.task_id)
            if container is not None:
                container.is_draining = True
                if not request.graceful:
                    container.end()
                pool.look()
        return pb.ContainerStopResponse()

    def _room(self) -> int:
        if self._is_closing:
            return 0
        living = sum(len(pool.containers) for pool in self)
        return self._ground.rules.containers_max - living

    def _look(self) -> None:
        for function in self._registry:
            if function.deployed is not None and asked(function).containers_min > 0:
                self.of(function)
        for pool in list(self):
            pool.look()
