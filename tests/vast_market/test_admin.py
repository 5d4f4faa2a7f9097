"""``/__sim/``: the truth, and the strings to pull, as somebody with curl meets them."""

from __future__ import annotations

from typing import Any

import pytest

from nightkiln.testing.vast_market import Box, VastMarket
from nightkiln.testing.vast_market.body import Bare, Traffic
from nightkiln.testing.vast_market.rules import Rules
from nightkiln.testing.vast_market.samples import quiet_night
from tests.vast_market.driving import LABEL, Sdk, asked, driven, until_ready


async def told(sdk: Sdk, what: str) -> Any:
    return (await asked(sdk.market, "GET", f"/__sim/{what}")).json()


async def pulled(sdk: Sdk, what: str, **how: Any) -> Any:
    answered = await asked(sdk.market, "POST", f"/__sim/{what}", json=how)
    assert answered.status_code == 200, answered.text
    return answered.json()


async def test_the_ledger_and_the_machines_are_told_as_they_are() -> None:
    async with driven() as sdk:
        contract = await sdk.rent()

        [bill] = await told(sdk, "ledger")
        [machine] = await told(sdk, "machines")

        assert (bill["label"], machine["label"]) == (LABEL, LABEL)
        assert (machine["contract"], machine["is_billed"]) == (contract.id, True)
        assert bill["destroyed"] is None
        parts = [bill[part] for part in ("gpu_usd", "storage_usd", "in_usd", "out_usd")]
        assert bill["usd"] == pytest.approx(sum(parts))


async def test_requests_are_remembered_and_those_about_the_truth_are_not() -> None:
    async with driven() as sdk:
        await sdk.rent()
        await told(sdk, "ledger")

        seen = await told(sdk, "requests")

        assert [one["endpoint"] for one in seen] == ["search", "create"]
        assert seen[1]["body"]["label"] == LABEL
        assert sdk.market.key not in str(seen)


async def test_time_can_be_advanced() -> None:
    async with driven() as sdk:
        contract = await sdk.rent()

        clock = await pulled(sdk, "clock", advance_s=until_ready(contract))

        assert clock["story_s"] >= until_ready(contract)
        assert contract.status == "running"


async def test_machines_can_be_put_on_the_market_and_everything_taken_off() -> None:
    async with driven(has_decoys=False) as sdk:
        await asked(sdk.market, "DELETE", "/__sim/offers")
        assert await sdk.offers() == []

        added = await pulled(sdk, "offers", gpu="RTX 5090", on_demand_usd_h=0.9)
        [offer] = await sdk.offers()

        assert [offer["id"]] == added["ids"]
        assert (offer["gpu_name"], offer["dph_base"]) == ("RTX 5090", 0.9)
        [listed] = await told(sdk, "offers")
        assert listed["stretch"]["gone_s"] is None
        assert (
            await asked(sdk.market, "POST", "/__sim/offers", json={"gpus": 1})
        ).status_code == 400


async def test_faults_can_be_put_in_force_and_lifted() -> None:
    async with driven() as sdk:
        await pulled(sdk, "faults", fault="list_empty@1x9")
        await sdk.rent()
        assert await sdk("show_instances") == []

        await asked(sdk.market, "DELETE", "/__sim/faults")

        assert len(await sdk("show_instances")) == 1
        assert (await told(sdk, "faults"))["struck"] == {"list_empty": 1}
        wrong = await asked(sdk.market, "POST", "/__sim/faults", json={"fault": "nonsense"})
        assert wrong.status_code == 400


async def test_a_host_can_be_killed_and_a_rival_sent() -> None:
    async with driven() as sdk:
        first, second = await sdk.bid(), await sdk.bid("nk/main/lease-002")

        await pulled(sdk, "kill", host=first.ask.host_id, contract=first.id)
        await pulled(sdk, "rival", contract=second.id, on_demand=True)

        assert (first.status, second.status) == ("offline", "exited")
        await pulled(sdk, "rival", contract=second.id)
        sdk.market.skip(60.0)
        assert second.status == "running"


async def test_credit_can_be_set_and_everything_seen_at_once() -> None:
    async with driven() as sdk:
        await sdk.rent()
        await pulled(sdk, "credit", usd=3.5)

        whole = await told(sdk, "snapshot")

        assert whole["credit"] == 3.5
        assert {"ledger", "machines", "requests", "clock", "faults"} <= set(whole)


class Counting(Bare):
    """A body that says what went over its line."""

    def traffic(self) -> Traffic:
        return Traffic(bytes_in=2_000_000_000, bytes_out=500_000_000)


async def test_what_a_body_counts_is_billed_with_the_image() -> None:
    boxes: list[Box] = []

    def made(box: Box) -> Counting:
        boxes.append(box)
        return Counting(box)

    rules = Rules(limits_scale=0.0, image_gb=0.0)
    async with VastMarket(quiet_night(), rules=rules, bodies=made) as market:
        sdk = Sdk(market)
        contract = await sdk.rent()
        market.skip(until_ready(contract))
        await market.settled()

        [bill] = market.ledger()
        assert (bill["gb_in"], bill["gb_out"]) == (2.0, 0.5)
        [box] = boxes
        assert box.env["NK_KEY"] == "ssh-ed25519 AAAA"
        assert box.env["CONTAINER_API_KEY"] == contract.key
        assert box.api_url == market.url
        assert box.disk_gb == 40.0
