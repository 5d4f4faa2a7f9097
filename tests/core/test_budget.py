"""Whatever is reserved, extended and settled, in whatever order: never above the budget."""

from __future__ import annotations

from decimal import Decimal

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
)
steps = st.lists(
    st.tuples(
        st.sampled_from(("reserve", "extend", "settle", "wait")),
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
    ledger, now_s, held = Ledger(budget, LOAD), 0.0, dict[LeaseId, tuple[Offer, float]]()
    for number, (what, offer, seconds, jobs) in enumerate(steps):
        lease_id = LeaseId(f"lease-{number}")
        if what == "reserve":
            life_s = ledger.life_s(offer, seconds, jobs=jobs, now_s=now_s)
            if life_s > 0:
                until_s = now_s + life_s
                ledger.reserve(lease_id, offer, now_s=now_s, until_s=until_s, jobs=jobs)
                held[lease_id] = offer, now_s
        elif what == "extend" and held:
            ledger.extension_s(next(iter(held)), seconds, jobs=jobs, now_s=now_s)
        elif what == "settle" and held:
            mine = next(iter(held))
            mine_offer, since_s = held.pop(mine)
            ledger.settle(mine, rent_usd(mine_offer, now_s - since_s), now_s=now_s)
        elif what == "wait" and held:
            now_s = min(ledger.until_s(each) for each in held)
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
