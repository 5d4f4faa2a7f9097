"""Baselines and the market's own front must charge the same for the same lease."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightkiln.core.model import Kind, LeaseId, Offer
from nightkiln.testing.market import Night, Stretch, shipped_market
from nightkiln.testing.market.baselines.rental import RENTED_KINDS, Rental, rented
from nightkiln.testing.market.billing import Usage, machine_bill, quoted

NIGHT = Night(shipped_market(), seed=1, horizon_s=8 * 3600.0)
QUOTE_USD = 2e-5  # prices are quoted to the millionth: 6 hours and 20 gigabytes of half of that


@settings(max_examples=200)
@given(st.sampled_from(NIGHT.stretches), st.sampled_from(RENTED_KINDS), st.floats(0, 6 * 3600))
def test_a_baseline_pays_what_the_market_bills(stretch: Stretch, kind: Kind, age_s: float) -> None:
    rental = rented(NIGHT, stretch, kind, stretch.listed_s)
    ends_s = min(rental.rented_s + age_s, rental.dies_s, rental.rented_s + stretch.boot_fails_s)

    ours = rental.bill(ends_s, delivered_share=1.0)

    assert ours.usd == pytest.approx(billed(rental, ends_s), abs=QUOTE_USD)


def billed(rental: Rental, released_s: float) -> float:
    """The market's bill, with the traffic of results as if parts of jobs sent parts."""
    stretch = rental.stretch
    offer = Offer(
        provider="market",
        ref=stretch.ref,
        usd_per_hour=quoted(rental.usd_per_s * 3600),
        storage_usd_per_hour=quoted(stretch.storage_usd_h),
        usd_per_gb_in=quoted(stretch.usd_per_gb_down),
        usd_per_gb_out=quoted(stretch.usd_per_gb_up),
        loading_billed=rental.billed_while_loading,
    )
    usage = Usage(rental.rented_s, released_s, rental.dies_s, jobs=0, is_released=True)
    bill = machine_bill(LeaseId("lease"), offer, usage, market=NIGHT.market, stretch=stretch)
    jobs = max(0.0, released_s - rental.ready_s) / stretch.s_per_job
    return float(bill.usd) + jobs * rental.gb_result * stretch.usd_per_gb_up
