"""What a job is expected to cost on an offer."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.core.learning import Outlook
from nightkiln.core.model import Offer
from nightkiln.core.pricing import Price, Quoter, expected_alive_s, startup_limit_s
from nightkiln.core.terms import Load, Rules
from tests.core.table import CHEAP, SURE

LOAD = Load(image_gb=5.0, models_gb=7.0, result_gb=0.01)
QUOTER = Quoter(LOAD, Rules())
AN_HOUR = replace(CHEAP, usd_per_hour=Decimal("3.60"))  # 0.001 USD a second


def price(
    offer: Offer = AN_HOUR,
    outlook: Outlook = SURE,
    *,
    left_s: float = 1e6,
    shortfall: float = 100.0,
) -> Price:
    found = QUOTER.price(offer, outlook, left_s=left_s, shortfall=shortfall)
    assert found is not None
    return found


def test_the_start_is_shared_by_the_jobs_that_follow() -> None:
    one, hundred = price(shortfall=1), price(shortfall=100)

    assert one.usd_per_job == pytest.approx(0.3 + 0.006)
    assert hundred.usd_per_job == pytest.approx(0.003 + 0.006)
    assert hundred.jobs == pytest.approx(100)


def test_time_limits_the_jobs_that_share_it() -> None:
    short = price(left_s=300.0 + 60.0)

    assert short.jobs == pytest.approx(10)
    assert short.usd_per_job == pytest.approx(0.03 + 0.006)


@pytest.mark.parametrize("left_s", [300.0, 0.0, -50.0])
def test_what_would_not_be_up_in_time_has_no_price(left_s: float) -> None:
    assert QUOTER.price(AN_HOUR, SURE, left_s=left_s, shortfall=100.0) is None


def test_a_gpu_that_is_not_billed_while_it_loads_is_cheaper_to_start() -> None:
    unbilled = replace(AN_HOUR, loading_billed=0.0)

    assert price(unbilled, shortfall=1).usd_per_job == pytest.approx(0.1 + 0.006)


def test_the_disk_is_paid_from_the_first_second() -> None:
    with_disk = replace(AN_HOUR, storage_usd_per_hour=Decimal("3.60"), loading_billed=0.0)

    assert price(with_disk, shortfall=1).usd_per_job == pytest.approx(0.1 + 0.3 + 0.012)


def test_traffic_is_paid_once_inwards_and_for_every_result_outwards() -> None:
    metered = replace(AN_HOUR, usd_per_gb_in=Decimal("0.1"), usd_per_gb_out=Decimal("0.2"))

    more = price(metered, shortfall=10).usd_per_job - price(shortfall=10).usd_per_job

    assert more == pytest.approx(12 * 0.1 / 10 + 0.2 * 0.01)


def test_a_tail_that_is_billed_after_the_last_job_counts() -> None:
    lingering = replace(AN_HOUR, idle_tail_s=60.0)

    assert price(lingering, shortfall=1).usd_per_job == pytest.approx(0.3 + 0.06 + 0.006)


def test_a_start_that_may_fail_makes_the_good_ones_dearer() -> None:
    shaky = replace(SURE, boot_fails=0.5)

    assert price(outlook=shaky, shortfall=1).usd_per_job == pytest.approx(0.3 * 1.5 + 0.006)


def test_a_machine_that_may_be_lost_does_fewer_jobs_for_its_start() -> None:
    risky = replace(SURE, feared_per_s=1 / 600)

    assert price(outlook=risky).jobs < 100
    assert price(outlook=risky).usd_per_job > price().usd_per_job


def test_ablations_change_the_rank_alone_or_leave_the_start_out() -> None:
    by_hour = Quoter(LOAD, Rules(ranks_by_hour=True))
    no_start = Quoter(LOAD, Rules(counts_start=False))

    ranked = by_hour.price(AN_HOUR, SURE, left_s=1e6, shortfall=100.0)
    bare = no_start.price(AN_HOUR, SURE, left_s=1e6, shortfall=100.0)

    assert ranked is not None
    assert (ranked.rank, ranked.usd_per_job) == (3.6, price().usd_per_job)
    assert bare is not None
    assert bare.usd_per_job == pytest.approx(0.006)
    assert price().rank == price().usd_per_job


@given(lost=st.floats(0, 1), run=st.floats(0, 1e9))
def test_nothing_lives_longer_than_it_is_used_nor_than_it_lasts(lost: float, run: float) -> None:
    alive_s = expected_alive_s(lost, run)

    assert 0 <= alive_s <= run
    assert lost == 0 or alive_s <= 1 / lost * 1.000001 or alive_s == run


def test_an_endless_use_lasts_until_the_loss() -> None:
    assert expected_alive_s(0.01, inf) == 100.0


def test_a_start_is_bounded_by_the_rules_and_by_the_time_left() -> None:
    rules = Rules(boot_factor=2.5, boot_extra_s=120.0, boot_s_max=1500.0, boot_share_max=0.35)

    assert startup_limit_s(SURE, rules, left_s=1e6) == 2.5 * 300 + 120
    assert startup_limit_s(replace(SURE, startup_s=900.0), rules, left_s=1e6) == 1500.0
    assert startup_limit_s(SURE, rules, left_s=2000.0) == 700.0


@given(st.floats(-1e4, 1e6), st.floats(1, 1e4))
def test_no_start_is_given_up_before_it_can_have_come_up(left_s: float, startup_s: float) -> None:
    rules = Rules(boot_factor_min=1.25)

    limit_s = startup_limit_s(replace(SURE, startup_s=startup_s), rules, left_s=left_s)

    assert limit_s >= min(1.25 * startup_s, rules.boot_s_max)
