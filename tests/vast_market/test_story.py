"""Both fronts of one night tell the same story."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from functools import partial

import pytest
import requests

from nightkiln.core.model import Kind, LeaseId, Need, Offer
from nightkiln.testing import virtual_time
from nightkiln.testing.market import Boot, Night, shipped_market
from nightkiln.testing.market.params import ApiTroubles
from nightkiln.testing.market.providers import SimulatedMarket
from nightkiln.testing.vast_market.body import Bare, Box
from nightkiln.testing.vast_market.contract import Contract
from nightkiln.testing.vast_market.exchange import Exchange, Terms
from nightkiln.testing.vast_market.orders import order_of
from nightkiln.testing.vast_market.rules import Rules
from tests.vast_market.driving import DISK_GB, Hand, driven

HOUR_S = 3_600.0
MANY = 10_000
RENTED = 25
CLOSE = Decimal("0.000002")  # a bid is rounded from a rounded minimum
ORDINARY = Terms(cancels_if_unavailable=True, is_taken=False, trouble=frozenset())


def night(seed: int, market: str = "ordinary") -> Night:
    return Night(shipped_market(market), seed=seed, horizon_s=24 * HOUR_S)


def served(of: Night, speed: float) -> tuple[Exchange, Hand]:
    hand = Hand()
    return Exchange(of, Rules(speed=speed, has_decoys=False, now=hand), Bare), hand


def at(exchange: Exchange, hand: Hand, story_s: float) -> None:
    hand.now_s += (story_s - exchange.clock.story_s) / exchange.clock.speed
    exchange.tick()


def rows(exchange: Exchange, kind: Kind) -> dict[str, dict[str, object]]:
    """Offers by the stretch that they stand for."""
    found = {}
    for row in exchange.offers(kind, DISK_GB):
        ask = exchange.asks.get(row["id"])
        assert ask is not None
        found[f"{ask.stretch.ref}:{kind}"] = row
    return found


def bid(row: dict[str, object], of: Night) -> Decimal:
    """What the in-process front offers for a machine that may be taken away."""
    premium = Decimal(str(of.market.price.bid_premium))
    return Decimal(str(row["min_bid"])) * premium


def is_told_alike(offer: Offer, row: dict[str, object], of: Night) -> bool:
    usd = bid(row, of) if offer.kind is Kind.INTERRUPTIBLE else Decimal(str(row["dph_base"]))
    storage = Decimal(str(row["storage_total_cost"]))
    return (
        row["gpu_name"] == offer.gpu
        and abs(usd - offer.usd_per_hour) <= CLOSE
        and abs(storage - offer.storage_usd_per_hour) <= CLOSE
        and row["reliability2"] == offer.reliability
        and row["inet_down"] == offer.mbps_in
        and Decimal(str(row["inet_down_cost"])) == offer.usd_per_gb_in
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("speed", [1.0, 60.0])
def test_both_list_the_same_offers_at_the_same_moment(seed: int, speed: float) -> None:
    of = night(seed)
    exchange, hand = served(of, speed)

    async def compared() -> None:
        async with SimulatedMarket(of) as market:
            for hour in (0.0, 0.7, 3.0, 9.5):
                await virtual_time_at(market, hour * HOUR_S)
                at(exchange, hand, hour * HOUR_S)
                there = {one.ref: one for one in await market.offers(Need(), limit=MANY)}
                here = {**rows(exchange, Kind.ON_DEMAND), **rows(exchange, Kind.INTERRUPTIBLE)}

                assert here.keys() == there.keys()
                for ref, offer in there.items():
                    assert is_told_alike(offer, here[ref], of), ref

    virtual_time.run(compared())


async def virtual_time_at(market: SimulatedMarket, story_s: float) -> None:
    await asyncio.sleep(max(0.0, story_s - market.now_s))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_both_let_a_rental_meet_the_same_fate(seed: int) -> None:
    of = night(seed)
    exchange, hand = served(of, 60.0)

    async def compared() -> None:
        async with SimulatedMarket(of) as market:
            await virtual_time_at(market, HOUR_S)
            at(exchange, hand, HOUR_S)
            offers = {one.machine: one for one in await market.offers(Need(), limit=MANY)}
            for number, offer in enumerate(list(offers.values())[:RENTED]):
                lease = await market.rent(
                    offer, LeaseId(f"lease-{number}"), Need(), expires_at_s=0.0
                )
                row = {**rows(exchange, offer.kind)}[offer.ref]
                price = float(offer.usd_per_hour) if offer.kind is Kind.INTERRUPTIBLE else None
                order = order_of({"image": "comfy", "disk": DISK_GB, "price": price})
                contract = exchange.rent(int(str(row["id"])), order, ORDINARY)

                terms, fate = market.rentals[lease.id].terms, contract.fate
                stretch = market.stretch(offer)
                ready_s = fate.ready_s if stretch.boot is Boot.OK else float("inf")
                assert contract.rented_s + ready_s == pytest.approx(terms.ready_s)
                broken_s = fate.fails.at_s if fate.fails is not None else float("inf")
                assert contract.rented_s + broken_s == pytest.approx(terms.broken_s)
                dark = [one.from_s for one in fate.away if one.to_s == float("inf")]
                lost_s = min([fate.outbid_s, *dark])
                assert contract.rented_s + lost_s == pytest.approx(terms.death_s)

    virtual_time.run(compared())


class Silent:
    """A body that is there."""

    def __init__(self, box: Box) -> None:
        self.box = box

    async def start(self) -> int:
        return 1

    async def freeze(self) -> None:
        """Nothing is to be seen of it."""

    async def thaw(self) -> None:
        """Nor of this."""

    async def reboot(self) -> int:
        return 2

    async def stop(self) -> None:
        """Nor of this."""


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_the_night_has_in_store_for_a_rental_comes_true(seed: int) -> None:
    of, hand = night(seed), Hand()

    async def seen() -> None:
        exchange = Exchange(of, Rules(has_decoys=False, now=hand), Silent)
        at(exchange, hand, HOUR_S)
        asks = list(exchange.asks.listed(HOUR_S))
        for ask in asks[:RENTED]:
            price = ask.stretch.on_demand_usd_h
            order = order_of({"image": "comfy", "disk": DISK_GB, "price": price})
            contract = exchange.rent(ask.id, order, ORDINARY)
            stretch, born_s = ask.stretch, contract.rented_s
            death_s = of.death_s(stretch, Kind.INTERRUPTIBLE, born_s)
            up_s = born_s + stretch.startup_s + 20.0
            if stretch.boot is Boot.OK and up_s < death_s:
                exchange.agenda.at(up_s, partial(is_it, contract, {"running"}))
            if stretch.boot is Boot.EARLY:
                broken_s = born_s + stretch.boot_fails_s + 1.0
                exchange.agenda.at(broken_s, partial(is_it, contract, {"loading"}))
            exchange.agenda.at(death_s + 1.0, partial(is_it, contract, {"exited", "offline"}))
        at(exchange, hand, 400 * HOUR_S)
        assert len(looked) > RENTED

    looked: list[int] = []

    def is_it(contract: Contract, states: set[str]) -> None:
        assert contract.status in states
        looked.append(contract.id)

    virtual_time.run(seen())


@pytest.mark.parametrize("window", ["outage", "storm"])
async def test_both_are_away_at_the_same_time(window: str) -> None:
    chances = {f"{window}_chance": 1.0, f"{window}_s": 600.0}
    market = replace(shipped_market(), api=ApiTroubles(**chances))
    of = Night(market, seed=1, horizon_s=24 * HOUR_S)
    found = of.api_outage if window == "outage" else of.api_storm
    assert found is not None

    async with driven(night=of) as sdk:
        assert (await sdk("show_user"))["credit"] > 0
        sdk.market.skip(found.from_s + 1.0)
        with pytest.raises(requests.HTTPError, match="503" if window == "outage" else "429"):
            await sdk("show_user")
        sdk.market.skip(600.0)
        assert (await sdk("show_user"))["credit"] > 0
