from __future__ import annotations

import pytest

from nightkiln.core.model import Kind
from nightkiln.testing.market import SHIPPED, Night, shipped_market
from nightkiln.testing.market.hurry import hurried

HOUR_S = 3600.0


@pytest.mark.parametrize("name", SHIPPED)
def test_a_hurried_night_is_the_same_night_by_a_faster_clock(name: str) -> None:
    slow = Night(shipped_market(name), seed=4, horizon_s=6 * HOUR_S)
    fast = Night(hurried(shipped_market(name), 60.0), seed=4, horizon_s=HOUR_S / 10)

    for one in fast.stretches:
        same = next(other for other in slow.stretches if other.ref == one.ref)
        assert one.startup_s * 60 == pytest.approx(same.startup_s)
        assert one.boot_fails_s * 60 == pytest.approx(same.boot_fails_s)
        assert one.s_per_job * 60 == pytest.approx(same.s_per_job)
        assert one.s_per_job * one.on_demand_usd_h == pytest.approx(
            same.s_per_job * same.on_demand_usd_h
        )
        for kind in (Kind.ON_DEMAND, Kind.INTERRUPTIBLE):
            slow_s = slow.death_s(same, kind, 600.0)
            assert fast.death_s(one, kind, 10.0) * 60 == pytest.approx(slow_s)
    assert len(fast.stretches) > 50


def test_a_hurried_fallback_costs_the_same_per_job() -> None:
    slow, fast = (shipped_market(), hurried(shipped_market(), 60.0))

    assert fast.fallback.cold_s == 1.0
    assert fast.fallback.usd_h * fast.fallback.seconds_per_job == pytest.approx(
        slow.fallback.usd_h * slow.fallback.seconds_per_job
    )
