"""Virtual time: an event loop that never waits and always tells the same story.

Instead of sleeping until the next timer, the clock jumps to it. There is nothing outside, no
socket and no thread, so when nothing can run and no timer is set, nothing ever will: that is an
error at once instead of a test that hangs. Work for threads runs inline, at no virtual time.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple, Unpack

ROUNDS_MAX = 200_000  # of the loop at one moment: more is a spin, not work
NAMED_MAX = 20  # waiting tasks named in an error
_ASYNCIO = str(Path(asyncio.__file__).parent)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Deadlock(RuntimeError):
    """Everything waits and no timer is set."""


class Spin(RuntimeError):
    """Something keeps running without any time passing."""


def run(main: Coroutine[Any, Any, T], *, start_s: float = 0.0) -> T:
    """``asyncio.run`` in virtual time; ``start_s`` is what ``loop.time()`` says at the start.

    Raises:
        Deadlock: nothing can happen any more; the message names who waits for what.
        Spin: tasks wake each other for ever at one moment.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(start_s)) as runner:
        return runner.run(main)


class VirtualTimeLoop(asyncio.BaseEventLoop):
    """An asyncio loop whose time is a number that it sets itself."""

    def __init__(self, start_s: float = 0.0) -> None:
        super().__init__()
        self._now_s = start_s
        self._rounds = 0
        self._selector = self  # what the base class asks, each round, to wait for the world

    def time(self) -> float:
        return self._now_s

    def select(self, timeout: float | None) -> list[Any]:
        """Let the next timer's moment come; nothing else ever happens."""
        self._rounds += 1
        if timeout == 0:
            if self._rounds > ROUNDS_MAX:
                self._rounds = 0  # whoever cleans up may run again
                raise Spin(f"{ROUNDS_MAX} rounds at {self._now_s:.3f} s: {_waiting(self)}")
            return []
        when_s = self._timers[0].when() if self._timers else math.inf
        if when_s == math.inf:
            raise Deadlock(
                f"nothing can happen after {self._now_s:.3f} s, no timer is set; {_waiting(self)}"
            )
        if when_s > self._now_s:
            self._now_s, self._rounds = when_s, 0
        return []

    @property
    def _timers(self) -> list[asyncio.TimerHandle]:
        """What the base class keeps for ``call_at``, soonest first."""
        return self._scheduled  # type: ignore[attr-defined,no-any-return]

    def run_in_executor(
        self, executor: object, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Call ``func`` here and now, so that what it does belongs to this moment."""
        del executor
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it is the caller's, and goes there
            future.set_exception(error)
        return future

    async def getaddrinfo(self, *_: Any, **__: Any) -> Any:
        """Refuse: the first step towards the network."""
        raise OSError("there is no network in virtual time")

    def _process_events(self, event_list: list[Any]) -> None:
        """Nothing: no event comes from outside."""

    def _write_to_self(self) -> None:
        """Nothing: there is no wait to be woken from."""


def _waiting(loop: asyncio.AbstractEventLoop) -> str:
    """The unfinished tasks, each with the line where it waits."""
    names = sorted(_where(task) for task in asyncio.all_tasks(loop))
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return f"{len(names)} tasks wait: {', '.join(names[:NAMED_MAX])}{more}"


def _where(task: asyncio.Task[Any]) -> str:
    """The task's name, what it runs, and the innermost line that is not asyncio's own."""
    waits: Any = task.get_coro()
    what, line = getattr(waits, "__qualname__", "?"), ""
    while waits is not None:
        frame = getattr(waits, "cr_frame", None)
        if frame is not None and not frame.f_code.co_filename.startswith(_ASYNCIO):
            line = f", {Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        waits = getattr(waits, "cr_await", None)
    return f"{task.get_name()} ({what}{line})"
