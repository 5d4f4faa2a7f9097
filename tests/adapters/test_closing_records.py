"""Records of leases that a sweep has ended: a store that fails holds up no other, and not long."""

from __future__ import annotations

import pytest

from nightkiln.core.errors import StoreUnusable
from nightkiln.core.model import LeaseId, Offer
from nightkiln.lease_book import Entry
from nightkiln.sweeping import FAILING_S_MAX, Closing

FAR, NEAR = "s3://nobody-answers/results", "/home/me/results"


def entry(number: int, store: str) -> Entry:
    return Entry(LeaseId(f"night-1-lease-{number:03}"), "night", 1, store, Offer("vast", "x"), 0, 1)


class Stores:
    """One that takes its time to fail, and one that works; their clock is the only one there is."""

    def __init__(self, *, fails_in_s: float) -> None:
        self.now_s = 0.0
        self.fails_in_s = fails_in_s
        self.asked: list[str] = []

    def write(self, entry: Entry, _until_s: float, _why: str) -> None:
        self.asked.append(entry.store)
        if entry.store == FAR:
            self.now_s += self.fails_in_s
            raise StoreUnusable("it cannot be reached")


async def closed(stores: Stores, *places: str) -> list[bool]:
    """Which of the leases of these stores are on record."""
    close, told = Closing(stores.write, clock=lambda: stores.now_s), []
    for number, place in enumerate(places):
        try:
            await close(entry(number, place), 1.0, "its run has ended")
        except StoreUnusable:
            told.append(False)
        else:
            told.append(True)
    return told


async def test_a_store_that_nobody_reaches_is_not_waited_for_with_each_lease() -> None:
    stores = Stores(fails_in_s=0.6 * FAILING_S_MAX)

    told = await closed(stores, *[FAR] * 10, NEAR)

    assert told == [False] * 10 + [True]
    assert stores.asked == [FAR, FAR, NEAR]


async def test_what_fails_at_once_is_tried_for_each_lease() -> None:
    stores = Stores(fails_in_s=0.1)

    assert await closed(stores, *[FAR] * 10) == [False] * 10
    assert len(stores.asked) == 10


async def test_what_was_given_up_says_so() -> None:
    stores = Stores(fails_in_s=2 * FAILING_S_MAX)
    close = Closing(stores.write, clock=lambda: stores.now_s)
    with pytest.raises(StoreUnusable, match="cannot be reached"):
        await close(entry(1, FAR), 1.0, "")

    with pytest.raises(StoreUnusable, match="the next sweep tries again"):
        await close(entry(2, FAR), 1.0, "")
