"""The simulated market's API, driven by the real SDK."""

from __future__ import annotations

import pytest
import requests

from tests.vast_market.driving import LABEL, Sdk, answer, asked, driven, until_ready

EVERYWHERE = {"0.0.0.0", "::"}  # noqa: S104 - what Docker shows
SCOPES: dict[str, dict[str, object]] = {"api": {"misc": {}, "user_read": {}, "instance_read": {}}}


async def test_a_machine_is_found_rented_seen_running_and_given_back() -> None:
    async with driven() as sdk:
        contract = await sdk.rent()

        sdk.market.skip(until_ready(contract))
        await sdk.market.settled()
        [row] = await sdk("show_instances")

        assert (row["id"], row["label"]) == (contract.id, LABEL)
        assert row["actual_status"] == "running"
        assert row["extra_env"]["NK_KEY"] == "ssh-ed25519 AAAA"
        assert {entry["HostIp"] for entry in row["ports"]["22/tcp"]} == EVERYWHERE

        assert (await sdk("destroy_instance", contract.id))["success"]
        sdk.market.skip(20.0)
        assert await sdk("show_instances") == []
        assert await sdk("show_instance", contract.id) is None
        with pytest.raises(requests.HTTPError, match="404"):
            await sdk("destroy_instance", contract.id)
        assert [one["is_billed"] for one in sdk.market.machines()] == [False]


async def test_a_start_shows_every_state_and_no_ports_before_it_runs() -> None:
    async with driven() as sdk:
        contract = await sdk.rent()
        fate, seen = contract.fate, []
        for at_s in (0.0, fate.created_s, fate.loading_s, fate.runs_s, fate.ports_s):
            sdk.market.skip(max(0.0, contract.rented_s + at_s - sdk.market.exchange.clock.story_s))
            await sdk.market.settled()
            row = await sdk("show_instance", contract.id)
            seen.append((row["actual_status"], row["ports"] is not None))

        states = [None, "created", "loading", "running", "running"]
        assert seen == list(zip(states, [False, False, False, False, True], strict=True))


async def test_sixty_machines_are_listed_in_three_pages_and_destroyed_in_one_call() -> None:
    async with driven() as sdk:
        offers = (await sdk.offers())[:60]
        contracts = [await sdk.create(one, f"nk/main/{n}") for n, one in enumerate(offers)]

        listed = await sdk("show_instances")
        pages = [one for one in sdk.market.requests if one.endpoint == "list"]

        assert [row["id"] for row in listed] == contracts
        assert len(pages) == 3
        await sdk("destroy_instance", contracts)
        assert not any(one["is_billed"] for one in sdk.market.machines())


async def test_a_listing_can_be_filtered_by_label_and_not_by_what_is_computed() -> None:
    async with driven() as sdk:
        contract = await sdk.rent()
        await sdk.rent("nk/main/lease-002")

        only = await sdk("show_instances_v1", {"select_filters": {"label": {"eq": LABEL}}})

        assert [row["id"] for row in only["instances"]] == [contract.id]
        assert only["label_counts"] == {LABEL: 1, "nk/main/lease-002": 1}
        with pytest.raises(requests.HTTPError, match="400"):
            await sdk("show_instances_v1", {"select_filters": {"dph_total": {"gt": 0}}})
        with pytest.raises(requests.HTTPError, match="400"):
            await sdk("show_instances_v1", {"after_token": "nonsense"})


async def test_the_account_knows_its_credit_and_its_charges_by_label() -> None:
    async with driven() as sdk:
        contract = await sdk.rent()
        await sdk("label_instance", contract.id, "nk/main/lease-002")
        await sdk("destroy_instance", contract.id)

        charges = await sdk("show_invoices_v1", charges=True, charge_type=["instance"])
        user = await sdk("show_user")

        [charge] = charges["results"]
        [truth] = sdk.market.ledger()
        assert charge["metadata"]["label"] == truth["label"] == "nk/main/lease-002"
        assert charge["amount"] == float(round(truth["usd"], 3))
        assert [item["type"] for item in charge["items"]] == ["gpu", "disk", "bwd", "bwu"]
        assert user["credit"] == pytest.approx(25.0 - float(truth["usd"]))


async def test_filters_hide_what_they_are_meant_to_also_when_numbers_come_as_text() -> None:
    async with driven() as sdk:
        usual = await sdk("search_offers", query={"rentable": {"eq": True}}, limit=1000)
        strict = await sdk("search_offers", query="num_gpus=1 reliability>0.99", limit=1000)

        assert {1, 2} == {row["num_gpus"] for row in usual}
        assert strict
        assert all(row["num_gpus"] == 1 and row["reliability"] > 0.99 for row in strict)
        assert not any(row["rented"] or row["verification"] != "verified" for row in usual)


async def test_asking_for_cuda_without_the_compute_capability_hides_the_newest_cards() -> None:
    async with driven() as sdk:
        alone = await sdk("search_offers", query={"cuda_max_good": {"gte": 12.8}}, limit=1000)
        both = await sdk.offers()

        assert "H100" not in {row["gpu_name"] for row in alone}
        assert "H100" in {row["gpu_name"] for row in both}


async def test_the_old_listing_is_retired_and_a_double_slash_is_forgiven() -> None:
    async with driven() as sdk:
        key = {"Authorization": f"Bearer {sdk.market.key}"}
        old = await asked(sdk.market, "GET", "/api/v0/instances/", headers=key)
        double = await asked(sdk.market, "GET", "//api/v1/instances", headers=key)

        assert (old.status_code, old.json()["error"]) == (410, "deprecated_endpoint")
        assert double.json()["instances"] == []


@pytest.mark.parametrize(
    ("order", "error"),
    [
        ({"disk": 4.0}, "invalid_args"),
        ({"disk": 1e6}, "invalid_args"),
        ({"image": ""}, "invalid_args"),
        ({"bid_price": 500.0}, "invalid_price"),
        ({"onstart_cmd": "x" * 5_000}, "invalid_args"),
    ],
)
async def test_an_order_against_the_rules_is_refused_and_rents_nothing(
    order: dict[str, object], error: str
) -> None:
    async with driven() as sdk:
        offer, *_ = await sdk.offers()
        asked_for = {"image": "comfy", "disk": 40.0, **order}

        with pytest.raises(requests.HTTPError, match="400") as raised:
            await sdk("create_instance", id=offer["id"], **asked_for)

        assert answer(raised).json()["error"] == error
        assert sdk.market.machines() == []


async def test_a_scoped_key_may_do_what_it_was_made_for_and_no_more() -> None:
    async with driven() as sdk:
        key = (await sdk("create_api_key", "reader", SCOPES))["key"]
        reader = Sdk(sdk.market, key=key)

        assert await reader("show_instances") == []
        with pytest.raises(requests.HTTPError, match="403"):
            await reader.rent()
        with pytest.raises(requests.HTTPError, match="401"):
            await Sdk(sdk.market, key="wrong")("show_user")


async def test_a_container_may_destroy_itself_and_touch_nothing_else() -> None:
    async with driven() as sdk:
        mine, other = await sdk.rent(), await sdk.rent("nk/main/lease-002")
        container = Sdk(sdk.market, key=mine.key)

        for forbidden in (("destroy_instance", other.id), ("show_instances",), ("show_user",)):
            with pytest.raises(requests.HTTPError, match="403"):
                await container(*forbidden)
        assert (await container("destroy_instance", mine.id))["success"]

        assert [one["is_billed"] for one in sdk.market.machines()] == [False, True]


async def test_what_hardly_anybody_asks_is_answered_too() -> None:
    async with driven() as sdk:
        contract = await sdk.rent()

        assert "RTX 4090" in (await asked(sdk.market, "GET", "/api/v0/gpu_names/unique/")).text
        assert (await asked(sdk.market, "GET", "/static/jvastai_root.cer")).text.startswith("---")
        assert (await sdk("reports", contract.ask.machine_id))["results"] == []
        assert await sdk("logs", contract.id) == "no output yet\n"
        found = await sdk("fetch_contracts", label=LABEL)
        assert LABEL in str(found)
