"""Every fault of the market, one night each: all jobs done, nothing left, nothing overspent."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightkiln.night import ALL_DONE
from nightkiln.testing.vast_market import FAULTS
from nightkiln.testing.vast_market.scene import VastScene

LISTED = sorted(FAULTS)
SAMPLE = ("create_lost",)  # in `make test`; .ci/run plays them all
ENDS_THE_ACCOUNT = {"create_no_credit"}


@pytest.mark.parametrize(
    "fault",
    [name if name in SAMPLE else pytest.param(name, marks=pytest.mark.nights) for name in LISTED],
)
async def test_a_night_survives(fault: str, tmp_path: Path) -> None:
    async with VastScene(tmp_path, jobs=30) as scene:
        scene.market.plan.add([fault])

        outcome = await scene.run()

        assert scene.market.plan.struck[fault], "the fault never struck"
        assert outcome.exit_code == ALL_DONE, scene.told()
        assert await scene.broken() == []
