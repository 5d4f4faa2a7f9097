from __future__ import annotations

import asyncio
import threading
import time

import pytest

from nightkiln.testing import virtual_time
from nightkiln.testing.virtual_time import Deadlock, Spin


def test_a_night_of_sleep_takes_no_time() -> None:
    async def night() -> float:
        await asyncio.sleep(8 * 3600)
        return asyncio.get_running_loop().time()

    started_s = time.monotonic()

    woke_s = virtual_time.run(night(), start_s=100.0)

    assert woke_s == 100.0 + 8 * 3600
    assert time.monotonic() - started_s < 5


def test_timers_fire_at_their_exact_moment_and_in_order() -> None:
    heard: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        heard.append((name, asyncio.get_running_loop().time()))

    async def main() -> None:
        await asyncio.gather(sleeper("late", 0.3), sleeper("early", 0.1), sleeper("tie", 0.3))

    virtual_time.run(main())

    assert heard == [("early", 0.1), ("late", 0.3), ("tie", 0.3)]


def test_a_stall_is_an_error_that_names_who_waits_and_where() -> None:
    async def waits_for_nobody() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(waits_for_nobody(), name="lease 7")
        await asyncio.sleep(5)
        await task

    with pytest.raises(
        Deadlock, match=r"after 5\.000 s.*lease 7 \(.*waits_for_nobody, test_virtual_time\.py:\d+\)"
    ):
        virtual_time.run(main())


def test_a_timer_that_never_comes_is_a_stall_too() -> None:
    with pytest.raises(Deadlock):
        virtual_time.run(asyncio.sleep(float("inf")))


def test_a_stall_still_lets_everybody_clean_up() -> None:
    released: list[str] = []

    async def main() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(60)
            released.append("lease")

    with pytest.raises(Deadlock):
        virtual_time.run(main())

    assert released == ["lease"]


def test_tasks_that_wake_each_other_for_ever_are_stopped() -> None:
    async def spins() -> None:
        while True:  # noqa: ASYNC110 - what must not go on
            await asyncio.sleep(0)

    with pytest.raises(Spin, match="spins"):
        virtual_time.run(spins())


def test_work_for_threads_runs_inline_and_takes_no_virtual_time() -> None:
    async def main() -> tuple[threading.Thread, float]:
        thread = await asyncio.to_thread(threading.current_thread)
        return thread, asyncio.get_running_loop().time()

    assert virtual_time.run(main()) == (threading.current_thread(), 0.0)


def test_what_fails_in_a_thread_fails_where_it_is_awaited() -> None:
    async def main() -> None:
        await asyncio.to_thread(int, "no number")

    with pytest.raises(ValueError, match="no number"):
        virtual_time.run(main())


def test_a_timeout_passes_in_virtual_time() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(600):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    assert virtual_time.run(main()) == 600


def test_there_is_no_network_in_virtual_time() -> None:
    with pytest.raises(OSError, match="virtual time"):
        virtual_time.run(asyncio.open_connection("localhost", 80))
