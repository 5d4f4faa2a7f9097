"""A signal is a request to end; only the third one insists."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from nightkiln.night import StopSwitch
from nightkiln.signals import SIGNALS, stopping_on_signals
from nightkiln.testing.waiting import until


class Asked(list[tuple[str, bool]]):
    """What a run is asked to do, in order."""

    def switch(self) -> StopSwitch:
        switch = StopSwitch()
        switch.connect(lambda reason, is_now: self.append((reason, is_now)))
        return switch


async def killed(heard: list[str], count: int) -> None:
    """Send one signal more, the ``count``-th, and see it heard."""
    os.kill(os.getpid(), signal.SIGTERM)
    await until(lambda: len(heard) == count)


async def test_the_first_signal_ends_in_order_the_second_at_once() -> None:
    asked = Asked()
    with stopping_on_signals(asked.switch()) as heard:
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: len(asked) == 1)
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: len(asked) == 2)

    assert asked == [("stopped by SIGHUP", False), ("stopped by SIGTERM", True)]
    assert heard == ["SIGHUP", "SIGTERM"]


async def test_the_third_signal_kills_the_run() -> None:
    async def run() -> None:
        with stopping_on_signals(Asked().switch()) as heard:
            for count in (1, 2, 3):
                await killed(heard, count)
            await asyncio.Event().wait()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(run())


async def test_patience_ends_without_a_second_signal() -> None:
    asked = Asked()
    with stopping_on_signals(asked.switch(), patience_s=0.01):
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: len(asked) == 2)

    assert asked == [("stopped by SIGTERM", False), ("stopped by SIGTERM", True)]


async def test_whoever_listened_before_listens_again() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]

    with stopping_on_signals(StopSwitch()):
        assert [signal.getsignal(number) for number in SIGNALS] != before

    assert [signal.getsignal(number) for number in SIGNALS] == before


async def test_outside_the_main_thread_nothing_is_touched() -> None:
    async def run() -> list[str]:
        with stopping_on_signals(StopSwitch()) as heard:
            return heard

    assert await asyncio.to_thread(asyncio.run, run()) == []
