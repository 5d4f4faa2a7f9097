"""Vast.ai by the real SDK, against the simulated market: what is rented, seen and given back."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from nightkiln.core.errors import OfferGone, ProviderError, WorkerLost
from nightkiln.core.model import Kind, LeaseId, Loss, Need
from nightkiln.lease_book import Entry, LeaseBook, Owner
from nightkiln.providers.vast import Limits, VastProvider
from nightkiln.testing.vast_market import VastMarket
from nightkiln.testing.vast_market.asks import DECOY_FIRST, DECOYS
from nightkiln.testing.vast_market.contract import Order
from nightkiln.testing.vast_market.exchange import Terms
from tests.adapters.vast_world import (
    HASTY,
    NEED,
    TERMS,
    a_market,
    a_provider,
    alive,
    calls,
    lease_id,
    rented,
    until,
)

BOTH = replace(TERMS, kinds=(Kind.ON_DEMAND, Kind.INTERRUPTIBLE))
HOUR_S = 3600.0


def contract(market: VastMarket, number: int = 0) -> int:
    return list(market.exchange.contracts)[number]


# Offers.


async def test_offers_of_both_kinds_come_cheapest_first_and_none_is_a_trap(tmp_path: Path) -> None:
    async with a_market() as market, a_provider(market, tmp_path, BOTH) as provider:
        offers = await provider.offers(NEED, limit=30)

    hours = [offer.usd_per_hour + offer.storage_usd_per_hour for offer in offers]
    assert {offer.kind for offer in offers} == {Kind.ON_DEMAND, Kind.INTERRUPTIBLE}
    assert hours == sorted(hours)
    decoys = {str(DECOY_FIRST + number) for number in range(len(DECOYS))}
    assert not decoys & {offer.ref.removesuffix(":bid") for offer in offers}


async def test_offers_are_priced_with_the_disk_that_will_be_rented(tmp_path: Path) -> None:
    async with a_market() as market, a_provider(market, tmp_path) as provider:
        [offer] = await provider.offers(replace(NEED, disk_gb=100), limit=1)
        await rented(provider, 0, offer)
        [search] = [one for one in market.requests if one.endpoint == "search"]
        [create] = [one for one in market.requests if one.endpoint == "create"]

    assert search.body["allocated_storage"] == 100
    assert create.body["disk"] == NEED.disk_gb
    assert offer.storage_usd_per_hour > 0


async def test_only_datacenters_are_offered_where_trust_is_needed(tmp_path: Path) -> None:
    async with a_market() as market, a_provider(market, tmp_path, BOTH) as provider:
        offers = await provider.offers(replace(NEED, trust="datacenter"), limit=50)

    assert offers
    assert {offer.trust for offer in offers} == {"datacenter"}


async def test_a_search_that_fails_is_repeated_and_never_empty(tmp_path: Path) -> None:
    faults = ("search_429", "search_html@4")
    async with a_market(*faults) as market, a_provider(market, tmp_path) as provider:
        assert await provider.offers(NEED, limit=1)


async def test_a_spent_quota_is_said_and_not_asked_for_again(tmp_path: Path) -> None:
    async with a_market("search_quota") as market, a_provider(market, tmp_path) as provider:
        with pytest.raises(ProviderError, match="00:00 UTC"):
            await provider.offers(NEED, limit=1)

        assert calls(market, "search") == 1


# Renting.


@pytest.mark.parametrize("kind", [Kind.ON_DEMAND, Kind.INTERRUPTIBLE])
async def test_a_create_is_labelled_cancellable_and_bids_only_where_it_should(
    tmp_path: Path, kind: Kind
) -> None:
    terms = replace(TERMS, kinds=(kind,))
    async with a_market() as market, a_provider(market, tmp_path, terms) as provider:
        lease = await rented(provider)
        [create] = [one for one in market.requests if one.endpoint == "create"]

    assert create.body["label"] == f"nk/main/{lease.id}"
    assert create.body["cancel_unavail"] is True
    bid = float(lease.offer.usd_per_hour) if kind is Kind.INTERRUPTIBLE else None
    assert create.body["price"] == bid
    assert create.body["env"]["NK_KEY"].startswith("ssh-ed25519 ")
    assert len(create.body["onstart"]) <= 4096


async def test_a_second_call_returns_the_same_lease(tmp_path: Path) -> None:
    async with a_market() as market, a_provider(market, tmp_path) as provider:
        [offer] = await provider.offers(NEED, limit=1)

        both = await asyncio.gather(rented(provider, 0, offer), rented(provider, 0, offer))

        assert both[0] == both[1]
        assert alive(market) == ["nk/main/night-1-lease-000"]


async def test_another_process_finds_the_machine_of_a_dead_one(tmp_path: Path) -> None:
    async with a_market() as market:
        async with a_provider(market, tmp_path) as first:
            lease = await rented(first)
        async with a_provider(market, tmp_path) as second:
            found = await second.owned()
            adopted = await rented(second, 0, lease.offer)
            assert len(alive(market)) == 1
            await second.release([adopted.id])

        assert found == [lease.id]
        assert alive(market) == []


@pytest.mark.parametrize(
    "fault",
    ["create_404", "create_409", "create_410", "create_false", "create_price", "taken_race"],
)
async def test_an_offer_that_is_gone_is_ordinary_and_leaves_nothing(
    tmp_path: Path, fault: str
) -> None:
    async with a_market(f"{fault}@1") as market, a_provider(market, tmp_path) as provider:
        with pytest.raises(OfferGone):
            await rented(provider)

        await provider.release([lease_id(0)])
        assert alive(market) == []
        assert calls(market, "create") == 1


@pytest.mark.parametrize(
    ("fault", "what_to_do"),
    [("create_no_credit", "add some"), ("create_spend_limit", "fewer or cheaper")],
)
async def test_a_refusal_says_what_to_do(tmp_path: Path, fault: str, what_to_do: str) -> None:
    async with a_market(fault) as market, a_provider(market, tmp_path) as provider:
        with pytest.raises(ProviderError, match=what_to_do):
            await rented(provider)

        assert calls(market, "create") == 1


@pytest.mark.parametrize("fault", ["create_lost", "create_502_after", "create_hangs"])
async def test_a_machine_whose_creation_nobody_confirmed_is_found(
    tmp_path: Path, fault: str
) -> None:
    async with a_market(fault) as market, a_provider(market, tmp_path) as provider:
        lease = await rented(provider)

        assert alive(market) == [f"nk/main/{lease.id}"]
        assert calls(market, "create") == 1
        await provider.release([lease.id])
        assert alive(market) == []


async def test_what_never_turns_up_is_gone_after_a_while(tmp_path: Path) -> None:
    async with a_market("create_502_before@1") as market, a_provider(market, tmp_path) as provider:
        begun_s = time.monotonic()

        with pytest.raises(OfferGone, match="did not turn up"):
            await rented(provider)

        assert time.monotonic() - begun_s >= HASTY.ambiguous_s
        assert calls(market, "create") == 1


async def test_a_bid_that_is_too_low_leaves_a_machine_which_is_destroyed(tmp_path: Path) -> None:
    terms = replace(TERMS, kinds=(Kind.INTERRUPTIBLE,))
    async with a_market() as market, a_provider(market, tmp_path, terms) as provider:
        [offer] = await provider.offers(NEED, limit=1)

        with pytest.raises(OfferGone):
            await rented(provider, 0, replace(offer, usd_per_hour=Decimal("0.001")))

        assert len(market.exchange.contracts) == 1
        await provider.release([lease_id(0)])
        assert alive(market) == []


async def test_a_doubtful_machine_is_not_released_before_it_is_known(tmp_path: Path) -> None:
    hasty = replace(TERMS, poll_s=3.0, limits=replace(HASTY, list_s=0.5))
    async with a_market("create_lost") as market, a_provider(market, tmp_path, hasty) as provider:
        [offer] = await provider.offers(NEED, limit=1)
        await provider.owned()
        market.plan.add(["list_500@1x1000"])
        renting = asyncio.create_task(rented(provider, 0, offer))
        await until(lambda: len(alive(market)) == 1)
        await asyncio.sleep(0)

        with pytest.raises(ProviderError):
            await provider.release([lease_id(0)])

        market.plan.clear()
        await asyncio.wait([renting])
        await provider.release([lease_id(0)])
        assert alive(market) == []


async def test_a_doubt_is_ended_by_a_listing_and_never_by_the_clock(tmp_path: Path) -> None:
    hasty = replace(TERMS, poll_s=3.0, limits=replace(HASTY, ambiguous_s=0.3, list_s=0.5))
    async with a_market("create_lost") as market, a_provider(market, tmp_path, hasty) as provider:
        [offer] = await provider.offers(NEED, limit=1)
        await provider.owned()
        market.plan.add(["list_500@1x1000"])
        renting = asyncio.create_task(rented(provider, 0, offer))
        await until(lambda: len(alive(market)) == 1)
        await asyncio.sleep(1.0)  # it is looked for in vain, and for longer than it should be

        with pytest.raises(ProviderError):
            await provider.release([lease_id(0)])
        assert provider.used(lease_id(0)) is None, "nobody knows what it costs"

        market.plan.clear()
        await asyncio.wait([renting])
        await provider.release([lease_id(0)])
        assert alive(market) == []


async def test_closing_leaves_no_order_behind(tmp_path: Path) -> None:
    patient = replace(TERMS, limits=replace(HASTY, ambiguous_s=600.0))
    async with a_market("create_502_before@1") as market:
        async with a_provider(market, tmp_path, patient) as provider:
            renting = asyncio.create_task(rented(provider))
            await until(lambda: calls(market, "create") == 1)
            renting.cancel()

        left = [task.get_name() for task in asyncio.all_tasks()]

    assert not [name for name in left if name.startswith("vast ")]


async def test_closing_looks_a_last_time_for_what_nobody_confirmed(tmp_path: Path) -> None:
    async with a_market("create_hangs") as market:
        async with a_provider(market, tmp_path) as provider:
            renting = asyncio.create_task(rented(provider))
            await until(lambda: len(alive(market)) == 1)
            renting.cancel()

        assert alive(market) == []


async def test_a_lease_that_nobody_wants_while_it_is_rented_is_given_back(tmp_path: Path) -> None:
    async with a_market("create_hangs") as market, a_provider(market, tmp_path) as provider:
        renting = asyncio.create_task(rented(provider))
        await until(lambda: len(alive(market)) == 1)
        renting.cancel()

        await provider.release([lease_id(0)])

        assert alive(market) == []


async def test_an_order_that_has_not_gone_out_never_does(tmp_path: Path) -> None:
    slow = replace(TERMS, limits=replace(HASTY, pace=1.0))
    async with a_market() as market, a_provider(market, tmp_path, slow) as provider:
        first, second = await provider.offers(NEED, limit=2)
        await rented(provider, 0, first)
        waiting = asyncio.create_task(rented(provider, 1, second))
        await asyncio.sleep(0.2)

        await provider.release([lease_id(1)])

        with pytest.raises(OfferGone):
            await waiting
        assert calls(market, "create") == 1


# What the listing says.


async def test_a_listing_that_lacks_our_machines_stops_renting(tmp_path: Path) -> None:
    async with a_market() as market, a_provider(market, tmp_path) as provider:
        first, second = await provider.offers(NEED, limit=2)
        await rented(provider, 0, first)
        assert await provider.owned() == [lease_id(0)]
        market.plan.add(["list_empty@1x10000"])
        await until(lambda: calls(market, "show") >= 1)

        with pytest.raises(ProviderError, match="lacks"):
            await rented(provider, 1, second)
        with pytest.raises(ProviderError, match="lacks"):
            await provider.owned()

        market.plan.clear()
        await provider.owned()
        await rented(provider, 2, second)
        assert len(await provider.owned()) == 2


async def test_a_listing_without_what_the_book_knows_to_live_is_not_believed(
    tmp_path: Path,
) -> None:
    async with a_market() as market:
        async with a_provider(market, tmp_path) as dead:
            first, second = await dead.offers(NEED, limit=2)
            lease = await rented(dead, 0, first)
        book = LeaseBook(tmp_path)
        entry = Entry(lease.id, "night", 1, "store", first, time.time(), time.time() + HOUR_S)
        book.intend(entry)
        book.rented(lease.id, host=lease.host)
        book.alive(Owner("night", 1, "store", time.time()))
        market.plan.add(["list_empty@1x1000"])
        async with a_provider(market, tmp_path) as heir:
            with pytest.raises(ProviderError, match="lacks"):
                await heir.owned()
            with pytest.raises(ProviderError, match="nothing more is rented"):
                await rented(heir, 1, second)

            market.plan.clear()
            assert await heir.owned() == [lease.id]


async def test_a_machine_that_is_truly_gone_is_lost_and_renting_goes_on(tmp_path: Path) -> None:
    async with a_market() as market, a_provider(market, tmp_path) as provider:
        first, second = await provider.offers(NEED, limit=2)
        lease = await rented(provider, 0, first)
        await provider.owned()
        market.exchange.lives.destroy(market.exchange.contracts[contract(market)])

        with pytest.raises(WorkerLost, match="does not know") as caught:
            async with provider.connect(lease):
                pytest.fail("there is nothing to connect to")

        assert caught.value.loss is Loss.LOST
        await provider.release([lease.id])
        await rented(provider, 1, second)


@pytest.mark.nights
@pytest.mark.parametrize(
    "fault",
    [
        "env_null",
        "date_null",
        "nulls",
        "unknown_status",
        "list_429",
        "list_500",
        "list_html",
        "list_empty",
        "list_token@2",
        "away@1x3",
    ],
)
async def test_owned_is_complete_whatever_the_listing_does(tmp_path: Path, fault: str) -> None:
    async with a_market(page_rows_max=2) as market, a_provider(market, tmp_path) as provider:
        for number, offer in enumerate(await provider.offers(NEED, limit=5)):
            await rented(provider, number, offer)
        market.plan.add([fault])

        found = await provider.owned()

    assert sorted(found) == [lease_id(number) for number in range(5)]


async def test_one_listing_a_tick_serves_all_leases(tmp_path: Path) -> None:
    slower = replace(TERMS, poll_s=0.3)
    async with a_market() as market, a_provider(market, tmp_path, slower) as provider:
        for number, offer in enumerate(await provider.offers(NEED, limit=5)):
            await rented(provider, number, offer)
        seen = calls(market, "list")

        await until(lambda: calls(market, "list") >= seen + 4)

        listed_s = [one.at_s for one in market.requests if one.endpoint == "list"][seen:]
        assert (listed_s[-1] - listed_s[0]) / (len(listed_s) - 1) > 0.2
        assert calls(market, "show") == 0


async def test_listings_go_on_after_those_that_failed(tmp_path: Path) -> None:
    hasty = replace(TERMS, kinds=(Kind.INTERRUPTIBLE,), limits=replace(HASTY, list_s=0.2))
    async with a_market() as market, a_provider(market, tmp_path, hasty) as provider:
        await rented(provider)
        await provider.owned()
        market.plan.add(["list_500@1x1000"])
        await until(lambda: market.plan.struck["list_500"] >= 3)
        market.plan.clear()

        market.exchange.lives.outbid(market.exchange.contracts[contract(market)])

        await until(lambda: alive(market) == [])


async def test_other_fleets_and_strangers_are_not_ours(tmp_path: Path) -> None:
    async with a_market() as market:
        other = replace(TERMS, fleet="staging")
        async with (
            a_provider(market, tmp_path) as mine,
            a_provider(market, tmp_path, other) as staging,
        ):
            first, second, third = await mine.offers(NEED, limit=3)
            await rented(mine, 0, first)
            await rented(staging, 1, second)
            strange = Order("image", 40.0, "somebody's", {}, "", "ssh", None)
            market.exchange.rent(int(third.ref), strange, Terms(True, False, frozenset()))

            assert await mine.owned() == [lease_id(0)]
            assert await staging.owned() == [lease_id(1)]
            billed = {one.lease_id: one for one in await mine.billed()}
            assert {one.fleet for one in billed.values()} == {"main", "staging"}
            assert set(billed) == {lease_id(0), lease_id(1)}
            one = billed[lease_id(0)]
            assert one.contract == str(contract(market))
            total = first.usd_per_hour + first.storage_usd_per_hour
            assert one.usd_per_hour == pytest.approx(total, abs=Decimal("0.0001"))
            assert one.since_s == pytest.approx(time.time(), abs=60)
            assert one.machine == first.machine


# Losing machines.


async def how_it_ends(provider: VastProvider) -> WorkerLost:
    """How a stay ends that cannot last."""
    lease = await rented(provider)
    with pytest.raises(WorkerLost) as caught:
        async with provider.connect(lease):
            pytest.fail("nothing renders here")
    return caught.value


async def test_an_outbid_machine_is_lost_to_the_market_and_destroyed_unasked(
    tmp_path: Path,
) -> None:
    terms = replace(TERMS, kinds=(Kind.INTERRUPTIBLE,))
    async with a_market() as market, a_provider(market, tmp_path, terms) as provider:
        losing = asyncio.create_task(how_it_ends(provider))
        await until(lambda: market.exchange.contracts != {})
        machine = market.exchange.contracts[contract(market)]
        await until(lambda: machine.status == "running")

        market.exchange.lives.outbid(machine)

        assert (await losing).loss is Loss.MARKET
        await until(lambda: alive(market) == [])


@pytest.mark.parametrize("fault", ["manifest_unknown", "no_space", "oci_failed", "exits_at_once"])
async def test_a_start_that_cannot_succeed_is_given_up_early(tmp_path: Path, fault: str) -> None:
    async with a_market(fault) as market, a_provider(market, tmp_path) as provider:
        error = await how_it_ends(provider)

        assert error.loss is Loss.STARTUP
        await until(lambda: alive(market) == [])


@pytest.mark.parametrize("fault", ["offline_forever", "frozen"])
async def test_a_machine_that_is_gone_is_given_up(tmp_path: Path, fault: str) -> None:
    async with a_market(fault, strikes_s=1.0) as market, a_provider(market, tmp_path) as provider:
        assert (await how_it_ends(provider)).loss is Loss.LOST


async def test_a_machine_that_is_away_for_a_moment_is_kept(tmp_path: Path) -> None:
    patient = replace(TERMS, limits=replace(HASTY, offline_s=5.0))
    async with a_market() as market, a_provider(market, tmp_path, patient) as provider:
        await rented(provider)
        machine = market.exchange.contracts[contract(market)]
        await until(lambda: machine.status == "running")
        market.exchange.lives._goes_away(machine)
        seen = calls(market, "list")
        await until(lambda: calls(market, "list") >= seen + 4)
        market.exchange.lives._comes_back(machine)
        seen = calls(market, "list")
        await until(lambda: calls(market, "list") >= seen + 2)

        assert alive(market) != []


async def test_a_start_ends_at_its_deadline_and_not_before(tmp_path: Path) -> None:
    terms = replace(TERMS, startup_s=2.0)
    async with a_market("stuck_loading") as market, a_provider(market, tmp_path, terms) as provider:
        assert (await how_it_ends(provider)).loss is Loss.SLOW


# Giving back.


@pytest.mark.parametrize(
    "fault",
    [
        "destroy_429",
        "destroy_500",
        "destroy_404",
        "destroy_lie",
        "list_500",
        "list_html",
        "away@1x3",
        "destroy_429@1x2 destroy_lie@3",
    ],
)
async def test_a_release_returns_when_nothing_is_billed(tmp_path: Path, fault: str) -> None:
    async with a_market() as market, a_provider(market, tmp_path) as provider:
        lease = await rented(provider)
        market.plan.add(fault.split())

        await provider.release([lease.id])

        assert alive(market) == []


async def test_a_listing_without_anything_is_no_proof_that_all_is_gone(tmp_path: Path) -> None:
    async with a_market() as market, a_provider(market, tmp_path) as provider:
        lease = await rented(provider)
        market.plan.add(["destroy_lie@1x2", "list_empty@1x1000"])

        await provider.release([lease.id])

        assert alive(market) == []


async def test_what_another_run_has_left_is_not_released_by_an_empty_listing(
    tmp_path: Path,
) -> None:
    async with a_market() as market:
        async with a_provider(market, tmp_path) as dead:
            lease = await rented(dead)
        async with a_provider(market, tmp_path) as heir:
            market.plan.add(["list_empty"])

            await heir.release([lease.id])

        assert alive(market) == []


async def test_a_row_that_lingers_is_waited_for(tmp_path: Path) -> None:
    async with a_market("destroy_lingers") as market, a_provider(market, tmp_path) as provider:
        lease = await rented(provider)

        await provider.release([lease.id])

        assert await provider.owned() == []


async def test_what_is_gone_already_is_released(tmp_path: Path) -> None:
    async with a_market() as market, a_provider(market, tmp_path) as provider:
        lease = await rented(provider)
        market.exchange.lives.destroy(market.exchange.contracts[contract(market)])

        await provider.release([lease.id])
        await provider.release([lease.id])
        await provider.release([LeaseId("nobody-1-lease-000")])

        assert alive(market) == []


async def test_a_release_that_is_not_waited_for_goes_on(tmp_path: Path) -> None:
    async with a_market("destroy_429@1x2") as market, a_provider(market, tmp_path) as provider:
        lease = await rented(provider)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await provider.release([lease.id])

        await until(lambda: alive(market) == [])


async def test_the_second_machine_of_a_label_is_destroyed(tmp_path: Path) -> None:
    async with a_market() as market, a_provider(market, tmp_path) as provider:
        first, second = await provider.offers(NEED, limit=2)
        lease = await rented(provider, 0, first)
        twin = Order("image", 40.0, f"nk/main/{lease.id}", {}, "", "ssh", None)

        market.exchange.rent(int(second.ref), twin, Terms(True, False, frozenset()))

        await until(lambda: len(alive(market)) == 1)
        assert market.exchange.contracts[contract(market)].destroyed_s is None, "not the first"


@pytest.mark.nights
@pytest.mark.timeout_s(180)
async def test_fifty_machines_are_gone_within_a_minute_at_the_documented_limits(
    tmp_path: Path,
) -> None:
    terms = replace(TERMS, poll_s=10.0, limits=Limits())
    ids = [lease_id(number) for number in range(50)]
    async with (
        a_market(limits_scale=1.0) as market,
        a_provider(market, tmp_path, terms) as provider,
    ):
        offers = [row for row in market.exchange.offers(Kind.ON_DEMAND, 40.0) if row["id"] > 9e6]
        for one, row in zip(ids, offers, strict=False):
            order = Order("image", 40.0, f"nk/main/{one}", {}, "", "ssh", None)
            market.exchange.rent(row["id"], order, Terms(True, False, frozenset()))
        assert len(alive(market)) == 50
        begun_s = time.monotonic()

        await provider.release(ids)

        assert time.monotonic() - begun_s < 60
        assert alive(market) == []
        assert not [one for one in market.requests if one.status == 429]


@pytest.mark.nights
@pytest.mark.timeout_s(180)
async def test_two_who_rent_at_once_never_hear_429(tmp_path: Path) -> None:
    terms = replace(TERMS, poll_s=10.0, limits=Limits())
    async with a_market(limits_scale=1.0) as market:
        async with (
            a_provider(market, tmp_path, terms) as one,
            a_provider(market, tmp_path, terms) as other,
        ):
            offers = await one.offers(NEED, limit=3)
            await asyncio.gather(
                rented(one, 0, offers[0]), rented(other, 1, offers[1]), rented(one, 2, offers[2])
            )
            await asyncio.gather(
                one.release([lease_id(0), lease_id(2)]), other.release([lease_id(1)])
            )

        assert alive(market) == []
        assert not [request for request in market.requests if request.status == 429]


# Money.


async def test_charges_by_lease_are_what_the_market_billed(tmp_path: Path) -> None:
    async with a_market(charge_decimals=6) as market, a_provider(market, tmp_path) as provider:
        begun_s = time.time()
        lease = await rented(provider)
        machine = market.exchange.contracts[contract(market)]
        await until(lambda: machine.status == "running")
        await asyncio.sleep(0.5)
        await provider.release([lease.id])
        [truth] = market.ledger()

        [charge] = await provider.charges(since_s=begun_s)

    assert charge.lease_id == lease.id
    assert float(charge.gpu) == pytest.approx(float(truth["gpu_usd"]), abs=2e-6)
    assert float(charge.storage) == pytest.approx(float(truth["storage_usd"]), abs=2e-6)
    assert float(charge.traffic_in) == pytest.approx(float(truth["in_usd"]), abs=2e-6)
    assert charge.usd > 0


async def test_needs_are_independent_of_settings(tmp_path: Path) -> None:
    async with a_market() as market, a_provider(market, tmp_path) as provider:
        offers = await provider.offers(Need(vram_gb=20, gpus=("RTX 4090",)), limit=20)

    assert {offer.gpu for offer in offers} == {"RTX 4090"}


# Keys.


def keys_in(state: Path) -> list[str]:
    return sorted(path.name for path in (state / "keys").iterdir())


async def test_a_batchs_key_is_kept_while_a_machine_may_be_entered_with_it(tmp_path: Path) -> None:
    async with a_market() as market:
        async with a_provider(market, tmp_path) as first:
            lease = await rented(first)
        assert keys_in(tmp_path) == ["night"]
        assert (tmp_path / "keys" / "night").stat().st_mode & 0o777 == 0o600

        async with a_provider(market, tmp_path) as second:
            await second.release([lease.id])

    assert keys_in(tmp_path) == []


async def test_a_batchs_key_is_kept_while_the_book_knows_of_another_of_its_leases(
    tmp_path: Path,
) -> None:
    book = LeaseBook(tmp_path)
    async with a_market() as market:
        async with a_provider(market, tmp_path) as provider:
            lease = await rented(provider)
            now_s = time.time()
            book.intend(Entry(lease_id(7), "night", 1, "store", lease.offer, now_s, now_s + HOUR_S))
            await provider.release([lease.id])
        assert keys_in(tmp_path) == ["night"]

        book.ended(lease_id(7), ended_s=time.time())
        async with a_provider(market, tmp_path) as provider:
            await provider.release([lease_id(7)])

    assert keys_in(tmp_path) == []
