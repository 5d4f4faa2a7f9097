"""Signals end a run in order instead of killing it; the terminal and the flows hear the same."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from nightkiln.night import StopSwitch

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stopping_on_signals(
    switch: StopSwitch, *, patience_s: float | None = None
) -> Iterator[list[str]]:
    """The first signal ends the run in order, the second at once, the third kills it.

    With ``patience_s`` the run ends at once so long after the first signal, for a supervisor who
    will not send a second one before he kills. Yields the names of the signals heard so far.
    Outside the main thread, where nobody can listen, nothing is heard.
    """
    heard: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield heard
        return
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def hear(name: str) -> None:
        heard.append(name)
        if len(heard) == 1:
            switch.ask(f"stopped by {name}")
            if patience_s is not None:
                loop.call_later(patience_s, hasten, name)
        elif len(heard) == 2:  # noqa: PLR2004 - see above
            hasten(name)
        else:
            task.cancel()

    def hasten(name: str) -> None:
        switch.ask(f"stopped by {name}", is_now=True)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        loop.add_signal_handler(number, hear, signal.Signals(number).name)
    try:
        yield heard
    finally:
        for number, handler in before.items():
            with contextlib.suppress(ValueError):
                loop.remove_signal_handler(number)
            signal.signal(number, handler)
