"""What goes to Vast.ai and what comes from it, without anybody asking: all of it pure."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.core.model import Kind, LeaseId, Loss, Need, Offer
from nightkiln.lease_book import Entry, LeaseBook, Owner
from nightkiln.providers.vast.charging import charges_of, days_around
from nightkiln.providers.vast.judging import FATAL, ailment, overcharge
from nightkiln.providers.vast.labels import LABEL_CHARS_MAX, label_of, read_label
from nightkiln.providers.vast.names import Names
from nightkiln.providers.vast.offers import Wish, query, read_offers
from nightkiln.providers.vast.orders import Order, ask_of, disk_to_rent_gb
from nightkiln.providers.vast.regions import countries
from nightkiln.providers.vast.rows import Row, read_row
from nightkiln.providers.vast.terms import Limits, VastTerms
from tests.nested import nested

TERMS = VastTerms()
LIMITS = Limits()
ANY = "0.0.0.0"  # noqa: S104 - what Docker shows
NAMES = st.from_regex(r"[A-Za-z0-9._-]{1,80}", fullmatch=True)
JSON = nested(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    keys=st.text(max_size=8),
)
ROW: dict[str, Any] = {
    "id": 7,
    "machine_id": 70,
    "num_gpus": 1,
    "gpu_name": "RTX 4090",
    "gpu_ram": 24564,
    "dph_base": 0.4,
    "min_bid": 0.2,
    "storage_cost": 0.15,
    "inet_down": 800.0,
    "inet_down_cost": 0.002,
    "inet_up_cost": 0.003,
    "reliability2": 0.99,
    "geolocation": "Oslo, NO",
    "hosting_type": 1,
    "verification": "verified",
}


def wish(need: Need | None = None, **terms: Any) -> Wish:
    return Wish(need if need is not None else Need(), replace(TERMS, **terms), 100)


def on_demand(*rows: Any, asked: Wish | None = None) -> list[Offer]:
    return read_offers(rows, (), asked if asked is not None else wish(), limit=10)


# Labels.


@given(NAMES, st.integers(0, 99_999), st.integers(0, 9_999))
def test_a_label_is_short_and_tells_fleet_and_lease(batch: str, epoch: int, number: int) -> None:
    lease_id = LeaseId(f"{batch}-{epoch}-lease-{number:03d}")

    label = label_of("main", lease_id)

    assert len(label) <= LABEL_CHARS_MAX
    found = read_label(label)
    assert found is not None
    assert found[0] == "main"
    assert label_of("main", found[1]) == label, "what is read back names the same machine"
    assert found[1] == lease_id or "~" in found[1]


def test_two_long_batches_of_one_beginning_have_different_labels() -> None:
    start = "portraits-of-everybody-who-was-there-on-the-first"

    labels = {label_of("main", LeaseId(f"{start}-{one}-1-lease-000")) for one in ("day", "eve")}

    assert len(labels) == 2


@given(JSON)
def test_labels_of_strangers_are_nobodys(text: Any) -> None:
    assert read_label(text) is None or text.startswith("nk/")


def test_a_cut_label_is_completed_from_the_lease_book(tmp_path: Path) -> None:
    whole = LeaseId("portraits-of-everybody-who-was-there-on-the-first-day-1-lease-000")
    offer = Offer("vast", "7")
    LeaseBook(tmp_path).intend(Entry(whole, "portraits", 1, "store", offer, 0.0, 9.0))
    label = label_of("main", whole)

    assert Names("main", tmp_path).lease_id(label) == whole
    assert Names("main", tmp_path / "other").lease_id(label) == label.removeprefix("nk/main/")
    assert Names("test", tmp_path).lease_id(label) is None, "another fleet's"


# Searches.


def test_a_search_asks_for_what_is_needed_in_the_services_units() -> None:
    asked = query(wish(Need(vram_gb=24, gpus=("RTX_4090",), trust="datacenter")))

    assert asked["num_gpus"] == {"eq": 1}
    assert asked["gpu_name"] == {"in": ["RTX 4090"]}
    assert asked["gpu_ram"] == {"gte": 22_856}  # MB, with what firmware keeps
    assert asked["disk_space"] == {"gte": 100}
    assert asked["datacenter"] == {"eq": True}
    assert asked["verified"] == {"eq": True}


def test_cuda_is_never_asked_for_without_the_compute_capability() -> None:
    asked = query(wish())

    assert {"cuda_max_good", "compute_cap"} <= set(asked)


def test_filters_without_a_value_are_left_out() -> None:
    asked = query(wish(reliability_min=None, cpu_arch=None, is_verified=False))

    assert not {"reliability", "cpu_arch", "verified", "gpu_name", "geolocation"} & set(asked)


def test_regions_are_countries_by_the_time_they_are_asked_for() -> None:
    europe = query(wish(regions=("eu", "NO"), regions_not=("DE",)))["geolocation"]["in"]

    assert {"FR", "NO"} <= set(europe)
    assert "DE" not in europe
    assert query(wish(regions_not=("CN",)))["geolocation"] == {"notin": ["CN"]}
    assert countries(["north-america"]) == ["CA", "MX", "US"]


def test_gpus_that_catalog_and_settings_do_not_share_are_none_rather_than_any() -> None:
    asked = query(wish(Need(gpus=("RTX 4090",)), gpus=("RTX 3090",)))

    assert asked["gpu_name"] == {"in": ["none"]}


def test_blocked_machines_are_not_searched_for() -> None:
    assert query(wish(machines_not=("70", "not a number")))["machine_id"] == {"notin": [70]}


# Offers.


def test_an_offer_has_its_price_in_parts() -> None:
    [offer] = on_demand(ROW)

    assert offer == Offer(
        provider="vast",
        ref="7",
        gpu="RTX 4090",
        usd_per_hour=Decimal("0.4"),
        startup_s=TERMS.startup_s,
        kind=Kind.ON_DEMAND,
        machine="70",
        storage_usd_per_hour=Decimal("0.15") * 100 / 720,
        usd_per_gb_in=Decimal("0.002"),
        usd_per_gb_out=Decimal("0.003"),
        mbps_in=800.0,
        reliability=0.99,
        vram_gb=24,
        region="NO",
        loading_billed=0.0,
        trust="datacenter",
    )


def test_a_bid_is_a_little_above_the_lowest_and_below_the_price_on_demand() -> None:
    offers = read_offers((ROW,), (ROW,), wish(bid_premium=1.25), limit=10)

    assert [(one.kind, one.usd_per_hour) for one in offers] == [
        (Kind.INTERRUPTIBLE, Decimal("0.25")),
        (Kind.ON_DEMAND, Decimal("0.4")),
    ]
    assert {ask_of(one) for one in offers} == {7}
    assert len({one.ref for one in offers}) == 2


def test_a_bid_as_dear_as_on_demand_is_no_offer() -> None:
    offers = read_offers((ROW,), ({**ROW, "min_bid": 0.39},), wish(), limit=10)

    assert [one.kind for one in offers] == [Kind.ON_DEMAND]


@pytest.mark.parametrize(
    ("hosting", "verification", "trust"),
    [(1, "verified", "datacenter"), (0, "verified", "verified"), (0, "unverified", "any")],
)
def test_trust_comes_from_what_is_known_of_the_host(
    hosting: int, verification: str, trust: str
) -> None:
    [offer] = on_demand({**ROW, "hosting_type": hosting, "verification": verification})

    assert offer.trust == trust


def test_what_the_service_should_have_filtered_is_looked_at_again() -> None:
    secret = wish(Need(vram_gb=24, trust="datacenter"), machines_not=("71",))
    rows = [
        {**ROW, "id": 1, "hosting_type": 0},
        {**ROW, "id": 2, "gpu_ram": 12_282},
        {**ROW, "id": 3, "num_gpus": 2},
        {**ROW, "id": 4, "dph_base": 3.0},
        {**ROW, "id": 5, "machine_id": 71},
        {**ROW, "id": 6},
    ]

    assert [one.ref for one in on_demand(*rows, asked=secret)] == ["6"]


def test_numbers_may_be_text_and_a_bad_row_hides_no_other() -> None:
    text = {name: str(v) if isinstance(v, float) else v for name, v in ROW.items()}

    offers = on_demand(None, "?", {"id": 1}, {**ROW, "id": None}, {**ROW, "dph_base": "NaN"}, text)

    assert [one.ref for one in offers] == ["7"]
    assert offers[0].usd_per_hour == Decimal("0.4")


@given(st.sampled_from(sorted(ROW)), JSON)
def test_no_value_of_a_row_breaks_the_reading(name: str, value: Any) -> None:
    rows = [{**ROW, name: value}, {**ROW, "id": 8}]

    offers = read_offers(rows, rows, wish(), limit=10)

    assert "8" in {one.ref for one in offers}
    assert all(one.usd_per_hour > 0 and 0 <= one.reliability <= 1 for one in offers)


# Orders.


def test_the_disk_holds_image_models_and_results() -> None:
    needed = disk_to_rent_gb(Need(), TERMS, models_gb=7.5, results_gb=1.0)

    assert needed == 24 + 10 + 9  # unpacked image, room, the rest rounded up
    assert disk_to_rent_gb(Need(disk_gb=3), TERMS) == 8, "the service rents no less"
    assert disk_to_rent_gb(Need(disk_gb=20), replace(TERMS, disk_gb=60.0)) == 60


def test_an_order_asks_for_a_price_only_where_it_bids() -> None:
    bid, fixed = (
        Order(
            Offer("vast", "7", usd_per_hour=Decimal("0.25"), kind=kind),
            "nk/main/x",
            40,
            "k",
            90,
            "",
        )
        for kind in (Kind.INTERRUPTIBLE, Kind.ON_DEMAND)
    )

    assert bid.arguments(TERMS)["bid_price"] == 0.25
    assert fixed.arguments(TERMS)["bid_price"] is None
    assert fixed.arguments(TERMS)["cancel_unavail"] is True
    assert fixed.arguments(TERMS)["disk"] == 40


def test_nothing_but_ssh_is_reachable_from_outside() -> None:
    order = Order(Offer("vast", "7"), "nk/main/x", 40, "ssh-ed25519 AAAA", 90.7, "")

    environment = order.arguments(TERMS)["env"]

    assert not [name for name in environment if name.startswith("-p")]
    assert "--listen 127.0.0.1" in environment["COMFYUI_ARGS"]
    assert "jupyter" not in environment["PORTAL_CONFIG"].lower()
    assert (environment["NK_LIFE_S"], environment["NK_QUIET_S"]) == ("90", "900")
    assert all(isinstance(value, str) for value in environment.values())


# Rows of our machines.


@given(JSON)
def test_no_row_breaks_the_listing(raw: Any) -> None:
    row = read_row(raw)

    assert row is None or row.contract > 0


@given(st.sampled_from(["ports", "public_ipaddr", "actual_status", "start_date", "label"]), JSON)
def test_a_row_with_a_senseless_value_still_counts(name: str, value: Any) -> None:
    row = read_row({"id": 3, "label": "nk/main/x", name: value})

    assert row is not None
    assert row.contract == 3


def test_the_address_is_of_port_22_and_ipv4_where_there_is_one() -> None:
    ports = {"22/tcp": [{"HostIp": "::", "HostPort": "1"}, {"HostIp": ANY, "HostPort": "41"}]}

    row = read_row({"id": 3, "public_ipaddr": "1.2.3.4\n", "ports": ports})

    assert row is not None
    assert row.address == ("1.2.3.4", 41)


@pytest.mark.parametrize("port", ["0", "65536", "-1", "x", None, 1.5, "9" * 50])
def test_a_port_that_is_none_is_not_tried(port: Any) -> None:
    ports = {"22/tcp": [{"HostIp": ANY, "HostPort": port}]}

    row = read_row({"id": 3, "public_ipaddr": "1.2.3.4", "ports": ports})

    assert row is not None
    assert row.address is None


def row(**values: Any) -> Row:
    usual = {"current": "running", "intended": "running", "following": "running"}
    return Row(3, "nk/main/x", **{"status": "running", **usual, **values})


STOPPED = {"current": "stopped", "intended": "stopped", "following": "stopped"}


def test_a_machine_that_the_market_has_stopped_is_lost_at_once() -> None:
    found = ailment(row(status="exited", **STOPPED), LIMITS, has_run=True)

    assert found is not None
    assert (found.loss, found.patience_s) == (Loss.MARKET, 0)


def test_a_stopped_machine_that_waits_for_its_gpu_is_lost_a_little_later() -> None:
    found = ailment(row(status="exited", current="stopped"), LIMITS, has_run=True)

    assert found is not None
    assert (found.loss, found.patience_s) == (Loss.MARKET, LIMITS.scheduling_s)


@pytest.mark.parametrize("sign", [sign for sign, _ in FATAL])
def test_a_final_text_ends_a_start_and_says_the_same_everywhere(sign: str) -> None:
    said = {f"Error on {host}: {sign} (id {host})" for host in ("a", "b")}

    found = {
        ailment(row(status="loading", message=one.lower()), LIMITS, has_run=False) for one in said
    }

    [only] = found
    assert only is not None
    assert (only.loss, only.patience_s) == (Loss.STARTUP, 0)


def test_texts_are_not_read_once_a_machine_has_run() -> None:
    assert ailment(row(message="manifest unknown"), LIMITS, has_run=True) is None


@pytest.mark.parametrize("status", ["", "created", "loading", "rebooting", "parked", "running"])
def test_a_status_alone_ends_nothing(status: str) -> None:
    assert ailment(row(status=status, current="unloaded"), LIMITS, has_run=False) is None


@pytest.mark.parametrize("status", ["offline", "unknown"])
def test_a_silent_machine_is_given_time(status: str) -> None:
    found = ailment(row(status=status), LIMITS, has_run=True)

    assert found is not None
    assert (found.loss, found.patience_s) == (Loss.LOST, LIMITS.offline_s)


def test_a_machine_that_costs_more_than_was_offered_is_not_kept() -> None:
    offer = Offer("vast", "7", usd_per_hour=Decimal("0.40"), storage_usd_per_hour=Decimal("0.02"))

    found = overcharge(row(usd_per_hour=Decimal("0.60")), offer)

    assert found is not None
    assert found.loss is Loss.MARKET
    assert overcharge(row(usd_per_hour=Decimal("0.43")), offer) is None
    assert overcharge(row(usd_per_hour=None), offer) is None


# The lease book.

NOW_S = 1_000.0
BOOKED = Entry(LeaseId("b-1-lease-000"), "b", 1, "store", Offer("vast", "7"), 0.0, NOW_S + 600)


@pytest.mark.parametrize(
    ("changes", "owner", "is_expected"),
    [
        ({}, Owner("b", 1, "store", NOW_S - 10), True),
        ({}, None, False),
        ({}, Owner("b", 2, "store", NOW_S), False),
        ({}, Owner("b", 1, "store", NOW_S - 901), False),
        ({}, Owner("b", 1, "store", NOW_S, has_ended=True), False),
        ({"expires_s": NOW_S - 1}, Owner("b", 1, "store", NOW_S), False),
        ({"offer": Offer("modal", "7")}, Owner("b", 1, "store", NOW_S), False),
    ],
)
def test_the_book_says_which_machines_must_be_alive(
    tmp_path: Path, changes: dict[str, Any], owner: Owner | None, *, is_expected: bool
) -> None:
    book, entry = LeaseBook(tmp_path), replace(BOOKED, **changes)
    book.intend(entry)
    book.rented(entry.lease_id, host="70")
    if owner is not None:
        book.alive(owner)

    expected = Names("main", tmp_path).expected(now_s=NOW_S, silent_s=900)

    assert expected == ([entry.lease_id] if is_expected else [])


# Charges.


def charged(label: str, amount: float, **items: float) -> dict[str, Any]:
    parts = [{"type": kind, "amount": value} for kind, value in items.items()]
    return {"amount": amount, "metadata": {"label": label}, "items": parts}


def test_charges_are_added_up_by_lease_and_part() -> None:
    rows = [
        charged("a", 0.5, gpu=0.3, disk=0.05, bwd=0.1, bwu=0.04, tip=0.01),
        charged("a", 0.2, gpu=0.2),
        charged("b", 0.7),
        charged("stranger", 9.0, gpu=9.0),
        {"amount": 5},
        None,
    ]
    ours = {"a": LeaseId("a"), "b": LeaseId("b")}

    first, second = charges_of(rows, ours.get)

    assert (first.gpu, first.storage) == (Decimal("0.5"), Decimal("0.05"))
    assert (first.traffic_in, first.traffic_out) == (Decimal("0.1"), Decimal("0.04"))
    assert first.usd == Decimal("0.70")
    assert (second.lease_id, second.other) == ("b", Decimal("0.7"))


def test_what_the_parts_of_a_charge_leave_of_its_amount_is_counted_too() -> None:
    rows = [charged("a", 0.5, gpu=0.3), charged("a", 0.001, gpu=0.001, disk=0.001)]

    [charge] = charges_of(rows, {"a": LeaseId("a")}.get)

    assert (charge.gpu, charge.other) == (Decimal("0.301"), Decimal("0.2"))


@given(st.lists(JSON, max_size=3), JSON, JSON)
def test_no_charge_breaks_the_sum(rows: list[Any], items: Any, amount: Any) -> None:
    odd = {"amount": amount, "items": items, "metadata": {"label": "a"}}

    for charge in charges_of([*rows, odd], {"a": LeaseId("a")}.get):
        assert charge.usd >= 0


@given(st.floats(0, 4e9), st.floats(0, 4e9))
def test_bills_are_asked_for_by_whole_days(since_s: float, now_s: float) -> None:
    first_s, last_s = days_around(since_s, now_s)

    assert first_s <= since_s
    assert first_s % 86_400 == 0
    assert last_s >= now_s - 1
    assert (last_s + 1) % 86_400 == 0
