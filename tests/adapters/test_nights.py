"""Two nights of one catalog: who goes on, and who is told to wait."""

from __future__ import annotations

import asyncio
import time

import pytest

from nightkiln.core.errors import ClaimHeld, NightAtWork, StoreUnusable
from nightkiln.nights import claimed, turn_json, turn_key
from nightkiln.ports.blobs import Blobs
from nightkiln.store.claims import STALE_S, claim_json, claim_key, newest_claim
from nightkiln.store.processes import Process
from tests.adapters.places import BOTH, place_in
from tests.adapters.test_store_claims import ALIVE_S, Clock

PARTI, OTHER = "parti", "upscale"
ELSEWHERE = Process("another-computer", 42, "elsewhere", "7")
FIRST, SECOND = "parti-2026-11-21", "parti-2026-11-22"


@pytest.fixture(params=BOTH)
def blobs(request: pytest.FixtureRequest) -> Blobs:
    """A folder, or a bucket."""
    return place_in(request.param, request)()


async def test_the_night_that_came_second_is_refused_and_told_which_one_is_at_work(
    blobs: Blobs,
) -> None:
    clock = Clock()

    async with claimed(blobs, FIRST, PARTI, clock=clock) as first:
        clock.now_s += 30
        with pytest.raises(NightAtWork, match=f"nightkiln stop {FIRST}") as refused:
            async with claimed(blobs, SECOND, PARTI, clock=clock):
                raise AssertionError("two nights are at work")
        await first.still_mine()

    assert (refused.value.batch, refused.value.other) == (SECOND, FIRST)
    assert "another night of catalog 'parti' is at work" in str(refused.value)
    seen = newest_claim(blobs, SECOND)
    assert seen is not None
    assert seen.ended == {"exit_code": 2, "ended_s": ALIVE_S + 30}  # nothing was started


async def test_of_two_nights_that_begin_at_the_same_moment_exactly_one_goes_on(
    blobs: Blobs,
) -> None:
    begun, refused = list[str](), list[str]()
    both_are_there = asyncio.Event()

    async def night(batch: str) -> None:
        try:
            async with claimed(blobs, batch, PARTI, clock=time.time):
                begun.append(batch)
                await both_are_there.wait()
        except ClaimHeld:
            refused.append(batch)
            both_are_there.set()

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for batch in (FIRST, SECOND):
            group.create_task(night(batch))

    assert (len(begun), len(refused)) == (1, 1)


async def test_a_night_of_another_catalog_and_a_run_that_somebody_asked_for_may_be_at_work(
    blobs: Blobs,
) -> None:
    clock = Clock()

    async with (
        claimed(blobs, "upscale-2026-11-21", OTHER, clock=clock),
        claimed(blobs, "parti-by-hand", None, clock=clock),
        claimed(blobs, SECOND, PARTI, clock=clock) as night,
        claimed(blobs, "parti-by-hand-too", None, clock=clock),
    ):
        await night.still_mine()


async def test_a_night_that_gave_no_sign_for_a_minute_is_in_nobodys_way(blobs: Blobs) -> None:
    clock = Clock()
    blobs.create(claim_key(FIRST, 1), claim_json(ELSEWHERE, ALIVE_S))
    blobs.create(turn_key(PARTI, 1), turn_json(FIRST, 1))

    with pytest.raises(NightAtWork):
        async with claimed(blobs, SECOND, PARTI, clock=clock):
            pass
    clock.now_s += STALE_S + 1
    async with claimed(blobs, SECOND, PARTI, clock=clock) as night:
        await night.still_mine()


async def test_a_night_that_has_ended_is_in_nobodys_way_and_goes_on_by_its_own_name(
    blobs: Blobs,
) -> None:
    clock = Clock()
    async with claimed(blobs, FIRST, PARTI, clock=clock) as first:
        first.end({"exit_code": 3})

    async with claimed(blobs, FIRST, PARTI, clock=clock) as again:
        assert again.epoch == 2
    async with claimed(blobs, SECOND, PARTI, clock=clock) as following:
        assert following.epoch == 1


async def test_a_turn_that_nobody_can_read_is_named_and_not_passed_over(blobs: Blobs) -> None:
    blobs.create(turn_key(PARTI, 1), b"{torn")

    with pytest.raises(StoreUnusable, match=turn_key(PARTI, 1)):
        async with claimed(blobs, FIRST, PARTI, clock=Clock()):
            pass
