"""What the timeline calls a lease."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from nightkiln.core.model import Kind, Lease, LeaseId, Offer
from tasks.showing.names import NAME_CHARS_MAX, lease_name

LEASE = LeaseId("night-1-lease-003")
CHEAP = Offer("vast", "9", "RTX 4090", usd_per_hour=Decimal("0.31"), kind=Kind.INTERRUPTIBLE)


def test_a_rented_machine_is_named_by_where_what_the_how_many_eth_and_its_price() -> None:
    assert lease_name(Lease(LEASE, CHEAP, "m17"), 3) == "vast RTX 4090 #3 (0.31/h)"


def test_its_price_is_that_of_all_that_is_paid_by_the_hour() -> None:
    dear = Offer(
        "vast", "9", "H200", usd_per_hour=Decimal("2.00"), storage_usd_per_hour=Decimal("0.05")
    )

    assert lease_name(Lease(LEASE, dear, "m17"), 12) == "vast H200 #12 (2.05/h)"


def test_little_money_is_told_in_more_digits() -> None:
    little = Offer("vast", "9", "GTX 1080", usd_per_hour=Decimal("0.034"))

    assert lease_name(Lease(LEASE, little, "m17"), 1) == "vast GTX 1080 #1 (0.034/h)"


def test_a_machine_of_ones_own_has_an_address_and_no_price() -> None:
    own = Offer("local", "http://10.0.0.7:8188")

    assert lease_name(Lease(LEASE, own, "10.0.0.7:8188"), 1) == "local 10.0.0.7:8188 #1"


@given(gpu=st.text(max_size=300), host=st.text(max_size=300), number=st.integers(1, 10_000))
def test_whatever_a_machine_is_called_its_name_is_one_line_that_ends_in_its_number(
    gpu: str, host: str, number: int
) -> None:
    offer = Offer("vast", "9", gpu, usd_per_hour=Decimal("0.31"))

    name = lease_name(Lease(LEASE, offer, host), number)

    assert name.isprintable()
    assert len(name) <= NAME_CHARS_MAX
    assert name.endswith(f" #{number} (0.31/h)")
