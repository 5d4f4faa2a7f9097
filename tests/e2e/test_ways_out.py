"""However a run ends, and at whatever moment: everything that it rented is given back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from nightkiln.core.errors import NightkilnError
from nightkiln.lease_book import LeaseBook
from nightkiln.night import StopSwitch
from tests.e2e.rental import Scene, scene

MOMENTS = (
    "rent",
    "connected",
    pytest.param("release", marks=pytest.mark.nights),
    *(pytest.param(each, marks=pytest.mark.long) for each in ("rented", "connect")),
)


class Mistake(RuntimeError):
    """Somebody's code does what nobody thought of."""


async def ended(
    night: Scene, moment: str, way: Callable[[asyncio.Task[None], StopSwitch], None]
) -> None:
    """A run that is ended in some way when something happens for the first time."""
    switch, said = StopSwitch(), set[str]()

    async def run() -> None:
        await night.run(switch=switch)

    running = asyncio.create_task(run())

    def hear(verb: str) -> None:
        if verb == moment and verb not in said:
            said.add(verb)
            way(running, switch)

    night.service.on_verb = hear
    with suppress(asyncio.CancelledError, NightkilnError, Mistake):
        await running
    assert said, "that moment never came"


def cancelled(running: asyncio.Task[None], switch: StopSwitch) -> None:
    """As the third Ctrl-C does, or whoever has this coroutine in a task of his own."""
    del switch
    running.cancel()


def stopped(running: asyncio.Task[None], switch: StopSwitch) -> None:
    """As the first signal does: SIGINT, SIGTERM, SIGHUP, Prefect's cancellation."""
    del running
    switch.ask("stopped")


def stopped_now(running: asyncio.Task[None], switch: StopSwitch) -> None:
    """As the second signal does."""
    del running
    switch.ask("stopped", is_now=True)


def mistaken(running: asyncio.Task[None], switch: StopSwitch) -> None:
    """A provider breaks in a way that it never said."""
    del running, switch
    raise Mistake


def nothing(running: asyncio.Task[None], switch: StopSwitch) -> None:
    """It comes to its own end."""
    del running, switch


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("way", [nothing, cancelled, stopped, stopped_now, mistaken])
async def test_whatever_ends_a_run_everything_is_given_back(
    way: Callable[[asyncio.Task[None], StopSwitch], None], moment: str, tmp_path: Path
) -> None:
    async with scene(tmp_path, machines=2) as night:
        await ended(night, moment, way)

        owner = night.owner()

    assert night.service.rented == {}
    assert night.book.entries() == []
    assert owner is not None
    assert owner.has_ended


async def test_a_run_that_is_cancelled_while_it_writes_an_intent_leaves_no_entry(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path) as night:
        running = asyncio.create_task(night.run())
        loop, heard = asyncio.get_running_loop(), []

        class Slow(LeaseBook):
            def intend(self, entry: object) -> None:
                heard.append(loop.call_soon_threadsafe(running.cancel))
                super().intend(entry)  # type: ignore[arg-type]

        night.made = Slow
        with suppress(asyncio.CancelledError):
            await running

        assert heard
        assert night.book.entries() == []
        assert night.service.rents == []
