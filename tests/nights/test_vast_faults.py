"""Every fault of the market, one night each: all jobs done, nothing left, nothing overspent."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightkiln.night import ALL_DONE
from nightkiln.testing.vast_market import FAULTS
from nightkiln.testing.vast_market.scene import VastScene

# For a night each of these is the same as another one, which CI plays: the provider takes both in
# the same way, and is held to that in CI (tests/adapters/test_vast_{provider,connect}).
VARIES = {
    # no machine, and nothing to pay
    "create_404": "taken_race",
    "create_409": "taken_race",
    "create_410": "taken_race",
    "create_false": "taken_race",
    "create_price": "taken_race",
    "create_502_before": "taken_race",
    "create_spend_limit": "create_no_credit",
    # a machine of which nobody told
    "create_502_after": "create_lost",
    "create_hangs": "create_lost",
    # asked once more
    "search_html": "search_429",
    "search_quota": "search_429",
    "list_500": "list_429",
    "list_html": "list_429",
    "destroy_500": "destroy_429",
    # rows that say too little
    "env_null": "nulls",
    "date_null": "nulls",
    # a start that cannot succeed
    "manifest_unknown": "exits_at_once",
    "no_space": "exits_at_once",
    "oci_failed": "exits_at_once",
    "ports_missing": "stuck_loading",
    "comfy_never_up": "stuck_loading",
    "black_hole_port": "stuck_loading",
    # not what was rented
    "cuda_old": "wrong_gpu",
    "busy_card": "wrong_gpu",
    "small_disk": "wrong_gpu",
    # taken away, or gone
    "end_date": "outbid",
    "offline_forever": "frozen",
}


def played(fault: str) -> object:
    """A fault, with the suite that it is played in."""
    is_varied = fault in VARIES
    return pytest.param(fault, marks=pytest.mark.long if is_varied else pytest.mark.nights)


def test_what_ci_leaves_out_varies_what_it_plays() -> None:
    assert VARIES.keys() | set(VARIES.values()) <= FAULTS.keys()
    assert not VARIES.keys() & set(VARIES.values())


@pytest.mark.timeout_s(300)
@pytest.mark.parametrize("fault", [played(name) for name in sorted(FAULTS)])
async def test_a_night_survives(fault: str, tmp_path: Path) -> None:
    async with VastScene(tmp_path, jobs=30) as scene:
        scene.market.plan.add([fault])

        outcome = await scene.run()

        assert scene.market.plan.struck[fault], "the fault never struck"
        assert outcome.exit_code == ALL_DONE, scene.told()
        assert await scene.broken() == []
