"""What becomes of rented machines: bids, rivals, hosts, terms, credit."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import requests

from nightkiln.testing.vast_market.exchange import Exchange
from tests.vast_market.driving import LABEL, Hand, Sdk, answer, driven, until_ready

STOPPED = ("stopped", "stopped", "stopped")


async def ran(sdk: Sdk, contract: Any) -> Any:
    """The contract once its machine renders."""
    sdk.market.skip(until_ready(contract))
    await sdk.market.settled()
    assert contract.status == "running"
    return contract


def states(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["cur_state"], row["intended_status"], row["next_state"]


async def test_whoever_bids_more_stops_a_machine_and_leaves_its_disk_to_be_paid() -> None:
    clock = Hand()
    async with driven(clock=clock) as sdk:
        contract = await ran(sdk, await sdk.bid())
        bid = float(contract.meter.usd_per_hour)

        sdk.market.exchange.rival(contract, bid * 0.9)
        assert contract.status == "running"
        sdk.market.exchange.rival(contract, bid * 1.5)

        row = await sdk("show_instance", contract.id)
        assert (row["actual_status"], states(row)) == ("exited", STOPPED)
        [before] = sdk.market.ledger()
        clock.now_s += 3_600.0
        [after] = sdk.market.ledger()
        assert after["gpu_usd"] == before["gpu_usd"]
        storage = contract.meter.prices.storage_usd_per_hour
        assert after["storage_usd"] - before["storage_usd"] == storage


async def test_a_higher_bid_wins_the_machine_back_and_so_does_the_rivals_leaving() -> None:
    async with driven() as sdk:
        contract = await ran(sdk, await sdk.bid())
        rival = float(contract.meter.usd_per_hour) * 1.5
        for back in ("bid", "leaves"):
            sdk.market.exchange.rival(contract, rival)
            if back == "bid":
                await sdk("change_bid", contract.id, price=rival * 1.1)
                rival *= 2
            else:
                sdk.market.exchange.rival(contract, None)
            sdk.market.skip(60.0)
            await sdk.market.settled()
            assert contract.status == "running", back


async def test_no_bid_beats_somebody_on_demand() -> None:
    async with driven() as sdk:
        contract = await ran(sdk, await sdk.bid())

        sdk.market.exchange.rival(contract, float("inf"))
        await sdk("change_bid", contract.id, price=100.0)
        sdk.market.skip(3_600.0)

        assert contract.status == "exited"
        assert (await sdk("show_instances"))[0]["min_bid"] == 100.0


async def test_a_bid_that_is_too_low_is_an_error_that_leaves_a_stopped_machine() -> None:
    async with driven() as sdk:
        with pytest.raises(requests.HTTPError, match="400") as raised:
            await sdk.bid(times=0.5)

        said = answer(raised).json()
        [row] = await sdk("show_instances")
        assert (said["error"], said["new_contract"]) == ("invalid_price", row["id"])
        assert states(row) == STOPPED
        assert [one["is_billed"] for one in sdk.market.machines()] == [True]


@pytest.mark.parametrize(("cancels", "left"), [(True, 0), (False, 1)])
async def test_a_machine_taken_since_the_search_is_refused_or_stopped_as_was_asked(
    cancels: bool,  # noqa: FBT001 - a parameter of the table
    left: int,
) -> None:
    async with driven("taken_race") as sdk:
        if cancels:
            with pytest.raises(requests.HTTPError, match="410"):
                await sdk.rent()
        else:
            contract = await sdk.rent(cancel_unavail=False)
            assert states(await sdk("show_instance", contract.id)) == STOPPED

        assert len(sdk.market.machines()) == left


async def test_an_offer_is_had_once_and_its_machine_is_not_offered_while_we_have_it() -> None:
    async with driven() as sdk:
        offer, *_ = await sdk.offers()
        contract = await sdk.create(offer)

        with pytest.raises(requests.HTTPError, match="410"):
            await sdk.create(offer)
        assert offer["machine_id"] not in {row["machine_id"] for row in await sdk.offers()}
        await sdk("destroy_instance", contract)
        assert offer["id"] not in {row["id"] for row in await sdk.offers()}


async def test_nothing_is_billed_while_the_host_is_offline() -> None:
    clock = Hand()
    async with driven(clock=clock) as sdk:
        contract = await ran(sdk, await sdk.rent())
        sdk.market.exchange.lives.kill(contract)
        [before] = sdk.market.ledger()

        clock.now_s += 3_600.0

        assert (await sdk("show_instance", contract.id))["actual_status"] == "offline"
        [after] = sdk.market.ledger()
        assert after["usd"] == before["usd"]


async def test_a_host_that_was_killed_does_not_come_back() -> None:
    async with driven("offline_back", strikes_s=60.0) as sdk:
        contract = await ran(sdk, await sdk.rent())
        sdk.market.exchange.lives.kill(contract)

        sdk.market.skip(600.0)

        assert contract.status == "offline"


async def test_all_machines_stop_when_the_credit_is_gone_and_none_is_rented_then() -> None:
    clock = Hand()
    async with driven(clock=clock, credit=Decimal("0.5"), image_gb=0.0, models_gb=0.0) as sdk:
        contract = await ran(sdk, await sdk.rent())
        clock.now_s += 10 * 3_600.0
        row = await sdk("show_instance", contract.id)

        assert states(row) == STOPPED
        with pytest.raises(requests.HTTPError, match="400") as raised:
            await sdk.rent("nk/main/lease-002")
        assert answer(raised).json()["error"] == "insufficient_credit"


async def test_at_the_end_of_its_term_a_machine_stops_and_is_deleted_two_days_later() -> None:
    async with driven("end_date") as sdk:
        contract = await ran(sdk, await sdk.rent())
        sdk.market.skip(400.0)
        assert states(await sdk("show_instance", contract.id)) == STOPPED

        sdk.market.skip(48 * 3_600.0)

        assert [one["is_billed"] for one in sdk.market.machines()] == [False]


async def test_stopping_keeps_the_disk_and_starting_goes_on_with_it() -> None:
    async with driven() as sdk:
        contract = await ran(sdk, await sdk.rent())

        await sdk("stop_instance", contract.id)
        assert contract.status == "exited"
        await sdk("start_instance", contract.id)
        sdk.market.skip(60.0)
        await sdk.market.settled()

        row = await sdk("show_instance", contract.id)
        assert row["actual_status"] == "running"
        assert row["ports"]["22/tcp"]


async def test_what_the_night_has_in_store_happens_without_anybody_asking() -> None:
    clock = Hand()
    async with driven("zombie", clock=clock, strikes_s=10.0) as sdk:
        contract = await ran(sdk, await sdk.rent())
        exchange: Exchange = sdk.market.exchange

        clock.now_s += 10.0
        exchange.tick()
        assert contract.status == "exited"
        clock.now_s += 120.0
        exchange.tick()

        assert contract.status == "running"
        assert contract.troubles == ["outbid", "resumed"]


async def test_a_row_shows_its_label_until_it_is_gone() -> None:
    async with driven("destroy_lingers") as sdk:
        contract = await sdk.rent()
        await sdk("destroy_instance", contract.id)
        sdk.market.skip(50.0)

        assert [row["label"] for row in await sdk("show_instances")] == [LABEL]
        assert [one["is_billed"] for one in sdk.market.machines()] == [False]
        sdk.market.skip(20.0)
        assert await sdk("show_instances") == []
