"""How the bar of a lease ends in the timeline: green is given back, and nothing else is."""

from __future__ import annotations

from decimal import Decimal

import pytest

from nightkiln.core.model import Lease, LeaseId, Offer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

OFFER = Offer("vast", "9", "RTX 4090", usd_per_hour=Decimal("0.31"))
LEASE = Lease(LeaseId("night-1-lease-003"), OFFER, "m17")
COUNTS = {"jobs_done": 7, "attempts_failed": 1}


@pytest.mark.parametrize(
    ("event", "name", "is_red"),
    [
        ("lease_released", "Released", False),
        ("lease_called_off", "CalledOff", False),
        ("lease_lost", "Lost", True),
        ("lease_not_released", "NotReleased", True),
    ],
)
def test_a_lease_ends_as_its_event_says(event: str, name: str, *, is_red: bool) -> None:
    from tasks.showing.leases import LeaseWatch, end_of

    watch = LeaseWatch("vast RTX 4090 #3", LEASE)
    watch.finish(event, COUNTS)

    end = end_of(watch)

    assert (end.name, end.is_failed()) == (name, is_red)
    assert end.message == "7 jobs done, 1 attempts failed"


def test_a_lease_whose_end_nobody_saw_is_red_and_does_not_look_given_back() -> None:
    from tasks.showing.leases import LeaseWatch, end_of

    watch = LeaseWatch("vast RTX 4090 #3", LEASE)
    watch.over.set()  # the run is over, and no event told of this lease

    end = end_of(watch)

    assert end.is_failed()
    assert end.name == "EndNotSeen"
    assert end.message is not None
    assert "may still be billed" in end.message
