"""Nights at the simulated market: real SDK, real SSH, a real controller."""

from __future__ import annotations

from pathlib import Path

from nightkiln.night import ALL_DONE
from nightkiln.testing.vast_market.scene import VastScene


async def test_a_quiet_night_is_done_and_given_back(tmp_path: Path) -> None:
    async with VastScene(tmp_path) as scene:
        outcome = await scene.run()
        print(scene.said.getvalue()[-6000:])

        assert outcome.exit_code == ALL_DONE
        assert await scene.broken() == []
