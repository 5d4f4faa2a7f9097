"""Every fault of the list, each met by the real SDK."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import requests

from nightkiln.core.errors import BadInput
from nightkiln.machine.gate import is_same_gpu
from nightkiln.testing.vast_machine.troubles import TROUBLES as BODY_TROUBLES
from nightkiln.testing.vast_market.body import Box
from nightkiln.testing.vast_market.boxes import box_of
from nightkiln.testing.vast_market.fate import TROUBLES
from nightkiln.testing.vast_market.fault_kinds import Afflicts
from nightkiln.testing.vast_market.fault_table import FAULTS
from nightkiln.testing.vast_market.faults import plan_of
from tests.vast_market.driving import driven

HTTP = requests.HTTPError
BROKEN = requests.ConnectionError
SLOW = requests.Timeout
NO_JSON = requests.JSONDecodeError
# fault at a create: what the SDK raises, what it says, and how many machines are billed then
CREATES: dict[str, tuple[type[Exception] | None, str | None, int]] = {
    "create_404": (HTTP, "404", 0),
    "create_409": (HTTP, "409", 0),
    "create_410": (HTTP, "410", 0),
    "create_price": (HTTP, "400", 0),
    "create_no_credit": (HTTP, "400", 0),
    "create_spend_limit": (HTTP, "400", 0),
    "create_false": (None, None, 0),
    "create_lost": (BROKEN, None, 1),
    "create_502_before": (HTTP, "502", 0),
    "create_502_after": (HTTP, "502", 1),
    "create_hangs": (SLOW, None, 1),
    "taken_race": (HTTP, "410", 0),
}
# fault at another call: the call, and what the SDK raises
CALLS: dict[str, tuple[str, type[Exception], str | None]] = {
    "search_429": ("search_offers", HTTP, "429"),
    "search_quota": ("search_offers", HTTP, "429"),
    "search_html": ("search_offers", NO_JSON, None),
    "list_429": ("show_instances", HTTP, "429"),
    "list_500": ("show_instances", HTTP, "500"),
    "list_html": ("show_instances", NO_JSON, None),
    "list_token": ("show_instances", HTTP, "400"),
    "env_null": ("show_instances", TypeError, None),
    "date_null": ("show_instances", TypeError, None),
    "auth_404": ("show_user", HTTP, "404"),
    "away": ("show_user", HTTP, "503"),
}
# fault of the list that no exception tells
TOLD: dict[str, Callable[[list[dict[str, Any]]], bool]] = {
    "list_empty": lambda rows: rows == [],
    "nulls": lambda rows: rows[0]["label"] is None,
    "unknown_status": lambda rows: rows[0]["actual_status"] == "parked",
}
# fault when a machine is destroyed: what the SDK raises, and whether it is still billed
DESTROYS: dict[str, tuple[str | None, bool]] = {
    "destroy_429": ("429", True),
    "destroy_500": ("500", True),
    "destroy_404": ("404", False),
    "destroy_lie": (None, True),
}
# trouble of a machine: what its row shows once it has struck
SHOWN: dict[str, Callable[[dict[str, Any]], bool]] = {
    "stuck_loading": lambda row: row["actual_status"] == "loading",
    "manifest_unknown": lambda row: "manifest unknown" in row["status_msg"],
    "no_space": lambda row: "no space left on device" in row["status_msg"],
    "oci_failed": lambda row: (
        row["actual_status"] == "created" and "OCI runtime create failed" in row["status_msg"]
    ),
    "exits_at_once": lambda row: row["actual_status"] == "exited",
    "small_disk": lambda row: row["disk_space"] == 20.0,
    "ports_missing": lambda row: "22/tcp" not in row["ports"],
    "ports_ipv6": lambda row: [one["HostIp"] for one in row["ports"]["22/tcp"]] == ["::"],
    "outbid": lambda row: row["cur_state"] == row["intended_status"] == "stopped",
    "zombie": lambda row: row["actual_status"] == "running",
    "offline_back": lambda row: row["actual_status"] == "running",
    "offline_forever": lambda row: row["actual_status"] == "offline",
    "frozen": lambda row: row["actual_status"] == "frozen",
    "moves": lambda row: row["actual_status"] == "running",
    "end_date": lambda row: row["cur_state"] == "stopped",
}
BY_ITS_BODY = frozenset(
    {"wrong_gpu", "cuda_old", "busy_card", "black_hole_port", "provision_fails", "slow_download"}
    | {"comfy_never_up", "gpu_slow", "cuda_500", "disk_full"}
)

# trouble that the figures of its body tell: how they differ from those of a sound one
IN_FIGURES: dict[str, Callable[[Box, Box], bool]] = {
    "wrong_gpu": lambda box, sound: not is_same_gpu(sound.gpu, box.gpu),
    "cuda_old": lambda box, _: float(box.cuda) < 12.0,
    "small_disk": lambda box, sound: box.disk_gb == sound.disk_gb / 2,
    "slow_download": lambda box, sound: box.mbps < sound.mbps / 10,
    "gpu_slow": lambda box, sound: box.seconds_per_job == pytest.approx(10 * sound.seconds_per_job),
}


def test_every_fault_is_met_here() -> None:
    met = {*CREATES, *CALLS, *TOLD, *DESTROYS, *SHOWN, *BY_ITS_BODY, "destroy_lingers"}
    met.add("mute")  # by a whole night: tests/nights/test_vast_faults.py

    assert met == set(FAULTS)
    afflicting = {one.play.trouble for one in FAULTS.values() if isinstance(one.play, Afflicts)}
    assert afflicting == set(TROUBLES)


@pytest.mark.parametrize("fault", CREATES)
async def test_a_create_meets_its_fault(fault: str) -> None:
    error, said, billed = CREATES[fault]
    async with driven(fault) as sdk:
        offer, *_ = await sdk.offers()
        if error is None:
            answer = await sdk("create_instance", id=offer["id"], image="comfy", disk=40.0)
            assert answer["success"] is False
        else:
            with pytest.raises(error, match=said):
                await sdk.create(offer)

        assert [one["is_billed"] for one in sdk.market.machines()] == [True] * billed


@pytest.mark.parametrize("fault", CALLS)
async def test_a_call_meets_its_fault(fault: str) -> None:
    verb, error, said = CALLS[fault]
    async with driven() as sdk:
        await sdk.rent()
        sdk.market.plan.add([f"{fault}@1"])
        with pytest.raises(error, match=said):
            await sdk(verb)

        await sdk(verb)


@pytest.mark.parametrize("fault", TOLD)
async def test_a_listing_lies(fault: str) -> None:
    async with driven(fault) as sdk:
        await sdk.rent()

        assert TOLD[fault]((await sdk("show_instances_v1", {}))["instances"])


@pytest.mark.parametrize("fault", DESTROYS)
async def test_destroying_meets_its_fault(fault: str) -> None:
    said, is_billed = DESTROYS[fault]
    async with driven(fault) as sdk:
        contract = await sdk.rent()
        if said is None:
            assert (await sdk("destroy_instance", contract.id))["success"]
        else:
            with pytest.raises(HTTP, match=said):
                await sdk("destroy_instance", contract.id)

        assert [one["is_billed"] for one in sdk.market.machines()] == [is_billed]


@pytest.mark.parametrize("fault", SHOWN)
async def test_a_machine_shows_its_trouble(fault: str) -> None:
    async with driven(fault, strikes_s=60.0) as sdk:
        contract = await sdk.rent()
        came_up_s = contract.fate.ready_s if contract.fate.ready_s < 1e9 else 3_600.0
        sdk.market.skip(came_up_s + 200.0)
        await sdk.market.settled()

        assert SHOWN[fault](await sdk("show_instance", contract.id))
        assert sdk.market.machines()[0]["trouble"] == [fault]


@pytest.mark.parametrize("fault", sorted(BY_ITS_BODY))
async def test_a_trouble_inside_is_left_to_the_body(fault: str) -> None:
    async with driven(fault) as sdk:
        contract = await sdk.rent()
        sdk.market.skip(contract.fate.ready_s)
        await sdk.market.settled()

        assert contract.status == "running"
        assert sdk.market.machines()[0]["trouble"] == [fault]


async def boxes(fault: str) -> tuple[Box, Box]:
    """The machine with its trouble, and what it would be without."""
    async with driven(fault) as sdk:
        contract = await sdk.rent()
        market = sdk.market
        troubled = box_of(contract, market.exchange.night, market.rules, market.url)
        contract.fate = replace(contract.fate, trouble=frozenset(), disk_share=1.0)
        return troubled, box_of(contract, market.exchange.night, market.rules, market.url)


@pytest.mark.parametrize("fault", sorted(IN_FIGURES))
async def test_a_trouble_is_in_the_figures_of_its_machine(fault: str) -> None:
    troubled, sound = await boxes(fault)

    assert IN_FIGURES[fault](troubled, sound)
    assert not IN_FIGURES[fault](sound, sound)


def test_no_trouble_inside_is_left_to_nobody() -> None:
    assert {*BY_ITS_BODY, "small_disk", "moves"} == {*IN_FIGURES, *BODY_TROUBLES}


async def test_a_trouble_waits_for_a_machine_when_nothing_was_rented() -> None:
    async with driven("create_404@1", "frozen") as sdk:
        offer, *_ = await sdk.offers()
        with pytest.raises(HTTP, match="404"):
            await sdk.create(offer)
        with pytest.raises(HTTP, match="410"):
            await sdk.create({"id": 1})
        contract = await sdk.create(offer)

        [machine] = sdk.market.machines()
        assert (machine["contract"], machine["trouble"]) == (contract, ["frozen"])
        assert sdk.market.plan.struck["frozen"] == 1


def test_a_fault_strikes_the_calls_that_were_named() -> None:
    plan = plan_of("1")
    plan.add(["list_500@3x2"])

    assert [bool(plan.striking("list")) for _ in range(6)] == [
        False,
        False,
        True,
        True,
        False,
        False,
    ]
    assert plan.striking("create") == []
    assert plan.struck == {"list_500": 2}


def test_a_share_of_calls_is_struck_and_the_same_ones_for_the_same_seed() -> None:
    def struck(seed: str) -> list[bool]:
        plan = plan_of(seed)
        plan.add(["list_500%25"])
        return [bool(plan.striking("list")) for _ in range(1_000)]

    assert struck("1") == struck("1")
    assert struck("1") != struck("2")
    assert 200 < sum(struck("1")) < 300


@pytest.mark.parametrize("spec", ["nonsense", "list_500@", "list_500%x", ""])
def test_a_fault_that_nobody_knows_is_refused(spec: str) -> None:
    with pytest.raises(BadInput, match="no fault"):
        plan_of("1").add([spec])
