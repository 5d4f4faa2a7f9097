"""Whatever is reserved, extended and settled, in whatever order: never above the budget."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.core.budget import Ledger, rent_usd, traffic_usd
from nightkiln.core.model import LeaseId, Offer
from nightkiln.core.terms import Load

LOAD = Load(image_gb=5.0, models_gb=7.0, result_gb=0.002)

prices = st.decimals("0.000001", "50", places=6)
offers = st.builds(
    Offer,
    provider=st.just("cloud"),
    ref=st.just("gpu"),
    usd_per_hour=prices,
    storage_usd_per_hour=st.decimals("0", "1", places=6),
    usd_per_gb_in=st.decimals("0", "0.05", places=6),
    usd_per_gb_out=st.decimals("0", "0.05", places=6),
    idle_tail_s=st.sampled_from((0.0, 60.0)),
    loading_billed=st.sampled_from((0.0, 0.3, 1.0)),
)
steps = st.lists(
    st.tuples(
        st.sampled_from(("reserve", "come up", "extend", "settle", "settle unbilled", "wait")),
        offers,
        st.floats(1.0, 7200.0),
        st.integers(0, 1000),
    ),
    max_size=30,
)


@given(budget=st.decimals("0.01", "100", places=2), steps=steps)
def test_spent_and_reserved_never_pass_the_budget_while_releases_are_in_time(
    budget: Decimal, steps: list[tuple[str, Offer, float, int]]
) -> None:
    ledger, now_s = Ledger(budget, LOAD), 0.0
    held, loaded_s, bills = dict[LeaseId, tuple[Offer, float]](), dict[LeaseId, float](), Decimal(0)
    for number, (what, offer, seconds, jobs) in enumerate(steps):
        lease_id = LeaseId(f"lease-{number}")
        if what == "reserve":
            life_s = ledger.life_s(offer, seconds, jobs=jobs, now_s=now_s)
            if life_s > 0:
                until_s = now_s + life_s
                ledger.reserve(lease_id, offer, now_s=now_s, until_s=until_s, jobs=jobs)
                held[lease_id] = offer, now_s
        elif what == "come up" and held:
            mine, (_, since_s) = next(iter(held.items()))
            loaded_s.setdefault(mine, min(seconds, now_s - since_s))
            ledger.came_up(mine, loaded_s[mine], now_s=now_s)
        elif what == "extend" and held:
            ledger.extension_s(next(iter(held)), seconds, jobs=jobs, now_s=now_s)
        elif what.startswith("settle") and held:
            mine, (mine_offer, since_s) = held.popitem()
            bill = rent_usd(mine_offer, now_s - since_s, loading_s=loaded_s.get(mine, 0.0))
            ledger.settle(mine, bill if what == "settle" else None, now_s=now_s)
            bills += bill
        elif what == "wait" and held:
            soon_s = min(ledger.until_s(each) for each in held)
            now_s += (soon_s - now_s) * min(1.0, seconds / 3600)
        assert bills <= ledger.spent
        assert ledger.spent + ledger.reserved(now_s) <= budget
        assert ledger.left(now_s) == budget - ledger.spent - ledger.reserved(now_s)


@given(offer=offers, seconds=st.floats(0.0, 1e6), jobs=st.integers(0, 10**6))
def test_a_life_that_is_granted_can_be_paid_and_a_longer_one_could_not(
    offer: Offer, seconds: float, jobs: int
) -> None:
    ledger = Ledger(Decimal("3.00"), LOAD)

    life_s = ledger.life_s(offer, seconds, jobs=jobs, now_s=0.0)

    costs = rent_usd(offer, life_s) + traffic_usd(offer, LOAD, jobs)
    assert 0.0 <= life_s <= seconds
    assert life_s == 0 or costs <= Decimal("3.00")
    if 0 < life_s < seconds:
        assert costs > Decimal("2.9999")


def test_without_a_budget_everything_is_granted_and_counted() -> None:
    ledger = Ledger(None, LOAD)
    offer = Offer("cloud", "gpu", usd_per_hour=Decimal(2))

    assert ledger.life_s(offer, 3600.0, jobs=5, now_s=0.0) == 3600.0
    ledger.reserve(LeaseId("a"), offer, now_s=0.0, until_s=3600.0, jobs=5)
    assert ledger.extension_s(LeaseId("a"), 60.0, jobs=1, now_s=0.0) == 60.0
    ledger.settle(LeaseId("a"), None, now_s=1800.0)

    assert ledger.left(0.0) is None
    assert ledger.spent == Decimal(1)


def test_what_was_never_reserved_or_is_settled_costs_nothing_again() -> None:
    ledger = Ledger(Decimal(1), LOAD)
    offer = Offer("cloud", "gpu", usd_per_hour=Decimal(1))
    ledger.reserve(LeaseId("a"), offer, now_s=0.0, until_s=60.0, jobs=0)
    ledger.settle(LeaseId("a"), Decimal("0.25"), now_s=60.0)

    ledger.settle(LeaseId("a"), Decimal("0.25"), now_s=60.0)
    ledger.settle(LeaseId("never"), Decimal("0.25"), now_s=60.0)

    assert ledger.spent == Decimal("0.25")


def test_the_tail_of_a_serverless_slot_is_reserved_too() -> None:
    offer = Offer("functions", "slot", usd_per_hour=Decimal(4), idle_tail_s=90.0)

    assert rent_usd(offer, 810.0) == Decimal("1.000000")


PULLING = Offer("cloud", "gpu", usd_per_hour=Decimal(1), loading_billed=0.25)


def loaded(said_s: float) -> Ledger:
    """A lease of two hours that came up after half an hour, of which it loaded so long, it says."""
    ledger = Ledger(Decimal(2), Load())
    ledger.reserve(LeaseId("a"), PULLING, now_s=0.0, until_s=7200.0, jobs=0)
    ledger.came_up(LeaseId("a"), said_s, now_s=1800.0)
    return ledger


def test_what_loading_did_not_cost_is_free_again_once_the_lease_is_up() -> None:
    ledger = loaded(1200.0)

    assert ledger.left(1800.0) == Decimal("0.25")  # a third of an hour at three quarters
    ledger.settle(LeaseId("a"), None, now_s=3600.0)
    assert ledger.spent == Decimal("0.75")


@pytest.mark.parametrize("said_s", [1800.0, 1e9, float("inf")])
def test_nothing_loads_for_longer_than_it_was_starting(said_s: float) -> None:
    assert loaded(said_s).left(1800.0) == Decimal("0.375")


@pytest.mark.parametrize("said_s", [0.0, -5.0, float("nan")])
def test_a_provider_that_does_not_say_how_long_it_loaded_is_paid_for_all(said_s: float) -> None:
    assert loaded(said_s).left(1800.0) == Decimal(0)


def test_the_disk_is_billed_while_the_machine_loads() -> None:
    offer = replace(PULLING, storage_usd_per_hour=Decimal(1), loading_billed=0.0)

    assert rent_usd(offer, 3600.0, loading_s=3600.0) == Decimal(1)
    assert rent_usd(offer, 3600.0, loading_s=7200.0) == Decimal(1)


def test_an_extension_pays_for_the_results_that_it_will_send() -> None:
    """Of 0.70 USD a thousand results of 2 MB take 0.10, and what is left gives half an hour."""
    offer = Offer("cloud", "gpu", usd_per_hour=Decimal(1), usd_per_gb_out=Decimal("0.05"))
    ledger = Ledger(Decimal("0.70"), LOAD)
    ledger.reserve(LeaseId("a"), offer, now_s=0.0, until_s=360.0, jobs=0)

    added_s = ledger.extension_s(LeaseId("a"), 3600.0, jobs=1000, now_s=0.0)

    assert added_s == pytest.approx(1800.0, abs=0.1)
    assert ledger.left(0.0) == pytest.approx(Decimal(0), abs=Decimal("0.0001"))


def test_a_lower_budget_leaves_what_is_bound_and_grants_nothing_more() -> None:
    ledger = Ledger(Decimal(5), LOAD)
    offer = Offer("cloud", "gpu", usd_per_hour=Decimal(2))
    ledger.reserve(LeaseId("a"), offer, now_s=0.0, until_s=3600.0, jobs=0)

    ledger.set_budget(Decimal(1), now_s=0.0)

    assert ledger.limit(0.0) == ledger.reserved(0.0) > 1
    assert ledger.life_s(offer, 3600.0, jobs=0, now_s=0.0) == 0
    assert ledger.extension_s(LeaseId("a"), 60.0, jobs=0, now_s=0.0) == 0
    ledger.settle(LeaseId("a"), Decimal("0.10"), now_s=60.0)
    assert ledger.limit(60.0) == 1
    assert ledger.life_s(offer, 60.0, jobs=0, now_s=60.0) == 60.0


def test_machines_for_nothing_are_had_also_below_what_is_bound() -> None:
    ledger = Ledger(Decimal(5), LOAD)
    paid, free = Offer("cloud", "gpu", usd_per_hour=Decimal(2)), Offer("local", "mine")
    ledger.reserve(LeaseId("a"), paid, now_s=0.0, until_s=3600.0, jobs=0)
    ledger.set_budget(Decimal(1), now_s=0.0)

    ledger.reserve(LeaseId("b"), free, now_s=0.0, until_s=3600.0, jobs=0)

    left = ledger.left(0.0)
    assert left is not None
    assert left < 0


def test_a_higher_budget_grants_more() -> None:
    ledger = Ledger(Decimal("0.10"), LOAD)
    offer = Offer("cloud", "gpu", usd_per_hour=Decimal(2))
    before_s = ledger.life_s(offer, 3600.0, jobs=0, now_s=0.0)

    ledger.set_budget(Decimal(4), now_s=0.0)

    assert before_s < ledger.life_s(offer, 3600.0, jobs=0, now_s=0.0) == 3600.0
