"""The containers of one function: started when inputs wait, given one each, let go when idle."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from modal_proto import api_pb2 as pb

from nightkiln.testing.modal.billing import Phase
from nightkiln.testing.modal.calls import Input, ended
from nightkiln.testing.modal.container import Container
from nightkiln.testing.modal.fault_kinds import RUN
from nightkiln.testing.modal.functions import Asked, Function, asked
from nightkiln.testing.modal.ground import Ground
from nightkiln.testing.modal.inside import Inside
from nightkiln.testing.modal.restarts import Restarts
from nightkiln.testing.modal.strokes import strike

Status = pb.GenericResult.GenericStatus


class Pool:
    """``room`` says how many more containers the workspace may start."""

    def __init__(self, ground: Ground, function: Function, room: Callable[[], int]) -> None:
        self._ground, self.function, self._room = ground, function, room
        self.waiting: deque[Input] = deque()
        self.containers: dict[str, Container] = {}  # that live
        self.past: list[Container] = []
        self._restarts = Restarts(ground.rules)

    @property
    def needs(self) -> Asked:
        return asked(self.function)

    @property
    def is_stopped(self) -> bool:
        state = self._ground.apps[self.function.app_id].state
        return state in {pb.APP_STATE_STOPPED, pb.APP_STATE_STOPPING}

    def put(self, item: Input) -> None:
        """An input to run."""
        self.waiting.append(item)
        self.look()

    def drop(self, item: Input, *, kill: bool) -> None:
        """An input that is not wanted any more; ``kill``: with the container that has it."""
        if item in self.waiting:
            self.waiting.remove(item)
        container = self.containers.get(item.container_id)
        if container is not None and kill:
            container.end()
        elif container is not None:
            container.unwanted = item
            container.told.set()

    def look(self) -> None:
        """Do what is to be done now: hand out inputs, start containers, let some go."""
        if self.is_stopped:
            self._stop()
        for container in list(self.containers.values()):
            if container.definition is not self.function.definition:
                container.is_draining = True  # of a version that is not live any more
        for container in self._asking():
            if self.waiting and not container.is_draining:
                self._hand(container, self.waiting.popleft())
            elif container.is_draining or self._is_idle_enough(container):
                container.is_draining = True
                self._hand(container, None)
        for _ in range(self._wanted()):
            self._start()

    def _stop(self) -> None:
        now_s = self._ground.clock.wall_s
        while self.waiting:
            self._settle(self.waiting.popleft(), Status.GENERIC_STATUS_TERMINATED, "app stopped")
        for container in list(self.containers.values()):
            if container.item is not None:
                says = ended(container.item, Status.GENERIC_STATUS_TERMINATED, "", now_s)
                container.item.call.settle(container.item, says, self._ground.clock.story_s)
            container.end()

    def _asking(self) -> list[Container]:
        """Those that wait for an input, the one that worked last first: so others can go."""
        idle = [one for one in self.containers.values() if one.is_asking]
        return sorted(idle, key=lambda one: -one.idle_since_s)

    def _is_idle_enough(self, container: Container) -> bool:
        """Whether it may go."""
        idle_s = self._ground.clock.story_s - container.idle_since_s
        needs = self.needs
        return idle_s >= needs.scaledown_s and len(self.live()) > needs.containers_min

    def _wanted(self) -> int:
        """How many containers to start now."""
        if self.is_stopped or not self._restarts.may_start(self._ground.clock.story_s):
            return 0
        needs = self.needs
        most = needs.containers_max
        limit = most if most is not None else self._ground.rules.containers_max
        coming = sum(one.is_coming for one in self.live())
        short = max(len(self.waiting) - coming, needs.containers_min - len(self.live()))
        if self._restarts.one_at_a_time:
            short = min(short, 1 - coming)
        return max(0, min(short, limit - len(self.live()), self._room()))

    def live(self) -> list[Container]:
        """Those that can still work on something."""
        return [
            one
            for one in self.containers.values()
            if not one.is_draining and one.phase is not Phase.ENDED
        ]

    def _start(self) -> None:
        container = Container(self._ground, self.function, on_up=lambda: self._watch(container))
        inside = Inside(
            container,
            self._ground.blobs,
            next_input=self._next_input,
            put_output=self._put_output,
            mistakes=self._ground.mistakes,
        )
        self.containers[container.container_id] = container
        container.task = asyncio.get_running_loop().create_task(container.live(inside.answer))
        container.task.add_done_callback(lambda task: self._gone(container, task))

    def _watch(self, container: Container) -> None:
        """It starts now: it has so long for that."""

        def look() -> None:
            if container.phase is Phase.STARTING:
                container.trouble = pb.GenericResult(
                    status=Status.GENERIC_STATUS_INIT_FAILURE, exception="startup timeout"
                )
                container.end()

        self._ground.clock.after(self._ground.limit_s(self.needs.startup_timeout_s), look)

    async def _next_input(self, container: Container) -> Input | None:
        """What a container is to do next; None: nothing more, it may go."""
        if not container.was_up:
            container.was_up = True
            self._restarts.came_up()
        container.turn(Phase.IDLE)
        container.idle_since_s = self._ground.clock.story_s
        container.asking = asyncio.get_running_loop().create_future()
        self._ground.clock.after(self.needs.scaledown_s, self.look)
        self.look()
        return await container.asking if container.asking is not None else container.item

    def _hand(self, container: Container, item: Input | None) -> None:
        asking, container.asking = container.asking, None
        assert asking is not None
        if item is not None:
            item.runs += 1
            item.container_id, container.item = container.container_id, item
            container.turn(Phase.BUSY)
            self._time(container, item)
            strike(self._ground, self, container, item, self._ground.faults.striking(RUN))
        if not asking.done():
            asking.set_result(item)

    def _time(self, container: Container, item: Input) -> None:
        """It has so long for this input."""
        run = item.runs

        def look() -> None:
            if container.item is item and item.runs == run and container.phase is Phase.BUSY:
                limit_s = self.needs.timeout_s
                self.fail(
                    container,
                    Status.GENERIC_STATUS_TIMEOUT,
                    f"Task's current input hit its timeout of {limit_s:g}s",
                )

        self._ground.clock.after(self._ground.limit_s(self.needs.timeout_s), look)

    def fail(
        self, container: Container, status: Status.ValueType, says: str, *, is_final: bool = False
    ) -> None:
        """Its input ends like this, and the container with it."""
        item, container.item = container.item, None
        container.end()
        if item is not None and item.is_open and (is_final or not self._again(item)):
            self._settle(item, status, says)

    def _put_output(self, container: Container, output: pb.FunctionPutOutputsItem) -> None:
        """What a container has made of its input."""
        item = container.item
        if item is None or item.input_id != output.input_id:
            return  # it was cancelled or has timed out meanwhile
        container.item = None
        container.turn(Phase.IDLE)
        failed = output.result.status == Status.GENERIC_STATUS_FAILURE
        if not item.is_open or (failed and self._again(item)):
            return
        item.call.settle(
            item,
            pb.FunctionGetOutputsItem(
                result=output.result,
                idx=item.index,
                input_id=item.input_id,
                data_format=output.data_format,
                task_id=container.container_id,
                input_started_at=output.input_started_at,
                output_created_at=output.output_created_at,
                retry_count=item.retry_count,
            ),
            self._ground.clock.story_s,
        )

    def _again(self, item: Input) -> bool:
        """Whether the service tries it once more, as it does for what was spawned."""
        if not item.call.is_spawned or item.retry_count >= self.needs.retries:
            return False
        item.retry_count += 1
        item.container_id = ""
        self.waiting.append(item)
        self.look()
        return True

    def _settle(self, item: Input, status: Status.ValueType, says: str) -> None:
        clock = self._ground.clock
        item.call.settle(item, ended(item, status, says, clock.wall_s), clock.story_s)

    def _gone(self, container: Container, task: asyncio.Task[None]) -> None:
        """A container is no more."""
        was_cut_short = task.cancelled() or container.phase is Phase.ENDED
        container.turn(Phase.ENDED)
        del self.containers[container.container_id]
        self.past.append(container)
        if not task.cancelled() and (error := task.exception()) is not None:
            assert isinstance(error, Exception)
            self._ground.mistakes.append(error)
        item, container.item = container.item, None
        if item is not None and item.is_open:
            self._lost(item, counts=not was_cut_short)
        if container.trouble is not None or not (container.was_up or was_cut_short):
            self._crashed(container)
        self.look()

    def _lost(self, item: Input, *, counts: bool) -> None:
        """Its container died under it: it runs again, first of all."""
        item.container_id = ""
        item.lost += counts
        if item.lost > self._ground.rules.reruns_max:
            self._settle(item, Status.GENERIC_STATUS_INTERNAL_FAILURE, "its containers keep dying")
        else:
            self.waiting.appendleft(item)

    def _crashed(self, container: Container) -> None:
        """It could not start."""
        clock = self._ground.clock
        clock.after(self._restarts.crashed(clock.story_s), self.look)
        if self._restarts.is_hopeless:
            self._give_up(container)

    def _give_up(self, container: Container) -> None:
        """So many starts have failed that what waits fails with them."""
        result = container.trouble
        if result is None:
            result = pb.GenericResult(exception="the container died while it started")
        failed = pb.GenericResult()
        failed.CopyFrom(result)
        failed.status = Status.GENERIC_STATUS_INIT_FAILURE
        while self.waiting:
            item = self.waiting.popleft()
            output = pb.FunctionGetOutputsItem(
                result=failed, idx=item.index, input_id=item.input_id, retry_count=item.retry_count
            )
            item.call.settle(item, output, self._ground.clock.story_s)
