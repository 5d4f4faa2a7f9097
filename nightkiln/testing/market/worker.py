"""A machine of the simulated market that renders: one job at a time, in order of submission."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nightkiln.core.errors import BadOutput, RenderFailed, WorkerLost
from nightkiln.core.model import AttemptId, BoundJob, Fault, JobId, Loss, Ticket, Timings
from nightkiln.ports.worker import Rendered
from nightkiln.testing.market.night import AttemptTruth, Ending, Window

NODE = "simulated"  # the node of the graph that is said to have made the output
TAKEN = "the machine was taken away"
SAID = {
    Ending.EXCEPTION: "a node raised an exception (simulated)",
    Ending.OUT_OF_MEMORY: "CUDA out of memory (simulated)",
}


@dataclass(frozen=True, slots=True)
class SimulatedOutput:
    """An output that weighs nothing: ``save`` writes ``content``, or without any, no file.

    A damaged one breaks off in the middle where there is content to break; else it says so.
    """

    content: bytes | None
    is_damaged: bool = False
    node: str = NODE

    async def save(self, path: Path) -> None:
        if self.content is None:
            if self.is_damaged:
                raise BadOutput("the image is damaged", fault=Fault.MACHINE, kind="damaged")
            return
        end = len(self.content) // 2 if self.is_damaged else None
        path.write_bytes(self.content[:end])  # noqa: ASYNC240 - a thread would cost more


@dataclass(frozen=True, slots=True)
class Life:
    """What will happen to a machine after it came up, in seconds of the loop."""

    death_s: float  # infinite: never
    detect_s: float  # from the death until it is noticed
    offline: Window | None = None  # out of reach, and then back


@dataclass(slots=True, eq=False)
class _Try:
    """One attempt at this machine."""

    ticket: Ticket
    job_id: JobId
    truth: AttemptTruth
    submitted_s: float
    left_s: float  # of GPU time
    ending: Rendered | RenderFailed | None = None
    waiters: list[asyncio.Future[None]] = field(default_factory=list)

    def end(self, ending: Rendered | RenderFailed) -> None:
        self.ending = ending
        self.wake()

    def wake(self) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)
        self.waiters.clear()


class SimulatedWorker:
    """A ``Worker`` that costs no task and one timer per job.

    ``truth`` says what becomes of a job's n-th try here. Times handed out are the loop's plus
    ``epoch_s``.
    """

    def __init__(
        self,
        label: str,
        gpu: str,
        truth: Callable[[JobId, int], AttemptTruth],
        *,
        picture: bytes | None,
        epoch_s: float,
        loading_s: float = 0.0,
    ) -> None:
        self.gpu, self.loading_s = gpu, loading_s
        self.rendered = 0  # jobs whose image was made, and fetched
        self._label, self._truth = label, truth
        self._picture, self._epoch_s = picture, epoch_s
        self._loop = asyncio.get_running_loop()
        self._tries: dict[Ticket, _Try] = {}
        self._failed_here: dict[JobId, int] = {}
        self._waiting: deque[_Try] = deque()
        self._running: _Try | None = None
        self._since_s: float | None = None  # when the GPU took up the running job; None: it idles
        self._timer: asyncio.TimerHandle | None = None
        self._fates: list[asyncio.TimerHandle] = []
        self._answers = asyncio.Event()
        self._answers.set()
        self._loss: str | None = None

    # The verbs.

    async def submit(self, job: BoundJob, attempt_id: AttemptId) -> Ticket:
        ticket = Ticket(f"{self._label}/{attempt_id}")
        await self._reach()
        if ticket not in self._tries:
            truth = self._truth(job.id, self._failed_here.get(job.id, 0))
            one = _Try(ticket, job.id, truth, self._loop.time(), truth.seconds)
            self._tries[ticket] = one
            self._waiting.append(one)
            self._start_next()
        return ticket

    async def result(self, ticket: Ticket) -> Rendered:
        one = self._tries.get(ticket)
        if one is None:
            raise WorkerLost(f"the machine knows nothing of {ticket}")
        if one.ending is None and self._loss is None:
            waiter = self._loop.create_future()
            one.waiters.append(waiter)
            await waiter
        await self._reach()
        assert one.ending is not None
        if isinstance(one.ending, RenderFailed):
            raise one.ending
        return one.ending

    async def cancel(self, ticket: Ticket) -> None:
        await self._reach()
        one = self._tries.get(ticket)
        if one is None or one.ending is not None:
            return
        self._failed_here[one.job_id] = self._failed_here.get(one.job_id, 0) + 1
        one.end(RenderFailed("interrupted at the worker", fault=Fault.MACHINE, kind="interrupted"))
        if one is self._running:
            self._halt()
            self._running = None
            self._start_next()
        else:
            self._waiting.remove(one)

    async def forget(self, ticket: Ticket) -> None:
        one = self._tries.get(ticket)
        if one is not None and one.ending is not None:
            del self._tries[ticket]

    async def _reach(self) -> None:
        """Wait while the machine does not answer."""
        if not self._answers.is_set():
            await self._answers.wait()
        if self._loss is not None:
            raise WorkerLost(self._loss, loss=Loss.MARKET if self._loss == TAKEN else Loss.LOST)

    # Rendering.

    def _start_next(self) -> None:
        if self._running is None and self._waiting and self._answers.is_set():
            self._running = self._waiting.popleft()
            self._go_on()

    def _go_on(self) -> None:
        assert self._running is not None
        self._since_s = self._loop.time()
        if not self._running.truth.hangs:
            due_s = self._since_s + self._running.left_s
            self._timer = self._loop.call_at(due_s, self._finish)

    def _halt(self) -> None:
        """Stop the GPU; the running job keeps what it has done."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._running is not None and self._since_s is not None:
            self._running.left_s -= self._loop.time() - self._since_s
        self._since_s = None

    def _finish(self) -> None:
        one = self._running
        assert one is not None
        self._running = self._timer = self._since_s = None
        one.end(self._ending_of(one))
        self._start_next()

    def _ending_of(self, one: _Try) -> Rendered | RenderFailed:
        truth = one.truth
        said = SAID.get(truth.ending)
        if truth.fails:
            self._failed_here[one.job_id] = self._failed_here.get(one.job_id, 0) + 1
        if said is not None:
            return RenderFailed(said, fault=truth.fault, kind=truth.kind)
        self.rendered += 1
        output = SimulatedOutput(self._picture, is_damaged=truth.ending is Ending.DAMAGED)
        timings = Timings(
            submitted_s=self._epoch_s + one.submitted_s,
            finished_s=self._epoch_s + self._loop.time(),
            gpu_s=truth.seconds,
        )
        return Rendered((output,), timings)

    # Fate.

    def live(self, life: Life) -> None:
        """Set the timers of what will happen to the machine."""
        if life.death_s < float("inf"):
            self._fates.append(self._loop.call_at(life.death_s, self._go_dark))
            seen_s = life.death_s + life.detect_s
            self._fates.append(self._loop.call_at(seen_s, self.lose, TAKEN))
        offline = life.offline
        if offline is None or offline.to_s <= self._loop.time() or offline.to_s >= life.death_s:
            return
        self._fates.append(self._loop.call_at(offline.from_s, self._go_dark))
        if offline.to_s - offline.from_s < life.detect_s:
            self._fates.append(self._loop.call_at(offline.to_s, self._come_back))
        else:
            seen_s = offline.from_s + life.detect_s
            self._fates.append(self._loop.call_at(seen_s, self.lose, "the machine is offline"))

    def _go_dark(self) -> None:
        self._halt()
        self._answers.clear()

    def _come_back(self) -> None:
        self._answers.set()
        if self._running is not None:
            self._go_on()
        self._start_next()

    def lose(self, reason: str) -> None:
        """Nobody will ever hear of this machine again; everybody who waits is told so."""
        if self._loss is not None:
            return
        self._loss = reason
        self._halt()
        for fate in self._fates:
            fate.cancel()
        self._answers.set()
        for one in self._tries.values():
            one.wake()
