"""Signs of life, as a simulated machine and its real dead-man's switch take them."""

from __future__ import annotations

import contextlib
from pathlib import Path

from nightkiln.machine.heartbeat import NO_BEAT
from nightkiln.machine.rendering import rendering
from nightkiln.testing.waiting import until
from tests.machine.place import loss_of, place

ARRIVING_BEATS_MAX = 100  # five a second, from the login on


async def test_heartbeats_go_on_counting_where_another_run_ended(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        async with rendering(here.stay(quiet_s=1.0)):
            await until(lambda: (here.ours / "heartbeat").exists() and here.beat()[0] >= 3)
        last, remaining = here.beat()
        here.expires_s += 7200

        async with rendering(here.stay(quiet_s=1.0)):
            await until(lambda: here.beat()[0] > last)

        assert here.beat()[0] <= last + ARRIVING_BEATS_MAX
        assert remaining <= 3600
        assert 10_000 < here.beat()[1] <= 10_800


async def test_the_dead_mans_switch_hears_the_heartbeats(tmp_path: Path) -> None:
    async with place(tmp_path) as here, rendering(here.stay(quiet_s=1.0)):
        await until(lambda: (here.ours / "left").read_text().split()[1] == "0")
        here.expires_s += 50_000

        await until(lambda: int((here.ours / "left").read_text().split()[0]) > 50_000)


async def test_a_machine_that_takes_no_heartbeat_any_more_is_lost(tmp_path: Path) -> None:
    async with place(tmp_path) as here:

        def is_in_the_way() -> bool:
            # A heartbeat that is just being written is a file of this name for a moment.
            with contextlib.suppress(FileExistsError, NotADirectoryError):
                (here.ours / "heartbeat.new" / "in the way").mkdir(parents=True)
                return True
            return False

        async def takes_none() -> None:
            await until((here.ours / "heartbeat").exists)
            await until(is_in_the_way)

        lost = await loss_of(here.stay(quiet_s=1.0), takes_none)

    assert str(lost) == NO_BEAT
