"""leases, reap and stop --all against a Vast.ai that is none."""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from nightkiln.core.model import Offer
from nightkiln.lease_book import Entry, Owner, Standing
from nightkiln.places import that_bill
from nightkiln.settings import load_settings
from tests.cli.desk import LEASE, Desk


def test_nothing_rented_is_nothing_to_see_and_nothing_to_reap(desk: Desk) -> None:
    seen, reaped = desk.call("leases"), desk.call("reap")

    assert (seen.exit_code, reaped.exit_code) == (0, 0), seen.output + reaped.output
    assert "nothing is billed, 0.000 USD an hour" in seen.stdout
    assert "nothing to give back" in reaped.stdout


def test_what_a_living_run_holds_is_shown_with_its_price_and_never_reaped(desk: Desk) -> None:
    entry = desk.rent()
    desk.signed()

    [lease] = desk.lines("leases")
    reaped = desk.call("reap", "--yes")

    assert (lease["lease_id"], lease["batch"], lease["fate"]) == (LEASE, "nightly", "keep")
    assert lease["difference"] is None
    assert lease["usd_per_hour"] == pytest.approx(
        float(entry.offer.usd_per_hour + entry.offer.storage_usd_per_hour), rel=0.01
    )
    assert lease["age_s"] < 60
    assert reaped.exit_code == 0, reaped.output
    assert desk.billed() == [f"nk/main/{LEASE}"]


@pytest.mark.nights
def test_a_dead_runs_machine_is_shown_first_and_given_back_only_with_yes(desk: Desk) -> None:
    desk.rent()
    desk.signed(has_ended=True)

    dry = desk.call("reap")
    after_dry = desk.billed()
    done = desk.call("reap", "--yes")

    assert dry.exit_code == 1
    assert "1 would be given back; --yes does it" in dry.stdout
    assert after_dry == [f"nk/main/{LEASE}"]
    assert done.exit_code == 0, done.output
    assert f"given back, and seen to be gone: {LEASE}" in " ".join(done.stdout.split())
    assert desk.billed() == []
    assert desk.call("leases").exit_code == 0


def test_a_machine_that_the_book_does_not_know_is_a_difference_and_no_prey(desk: Desk) -> None:
    desk.rent()
    desk.book.forget(LEASE)

    seen = desk.lines("leases")
    reaped = desk.call("reap", "--yes")

    assert [each["difference"] for each in seen] == ["billed, and not in the book"]
    assert desk.call("leases").exit_code == 1
    assert reaped.exit_code == 0
    assert desk.billed() == [f"nk/main/{LEASE}"]


@pytest.mark.nights
def test_another_fleet_is_seen_and_left_alone(desk: Desk) -> None:
    desk.rent(fleet="staging")
    desk.signed(has_ended=True)

    [seen] = desk.lines("leases")
    ours = desk.call("reap", "--yes")
    still = desk.billed()
    theirs = desk.call("reap", "--yes", "--fleet", "staging")

    assert (seen["fleet"], seen["fate"]) == ("staging", "foreign")
    assert (ours.exit_code, still) == (0, [f"nk/staging/{LEASE}"])
    assert theirs.exit_code == 0, theirs.output
    assert desk.billed() == []


@pytest.mark.nights
def test_an_intent_that_nobody_confirmed_is_told(desk: Desk) -> None:
    entry = desk.rent()
    asyncio.run(_released(desk))
    desk.book.forget(LEASE)
    again = replace(entry, standing=Standing.INTENDED, asked_s=time.time() - 5)
    desk.book.intend(again)
    desk.signed()

    [lease] = desk.lines("leases")

    assert (lease["is_billed"], lease["book"], lease["cause"]) == (False, "intended", "starting")


async def _released(desk: Desk) -> None:
    settings = load_settings(
        vast_api_key=desk.market.key, vast_url=desk.market.url, state=str(desk.folder / "state")
    )
    [provider] = that_bill(settings).values()
    async with provider:
        await provider.release([LEASE])


def test_without_a_key_reap_has_nobody_to_ask_and_leases_reads_the_book(desk: Desk) -> None:
    desk.rent()
    desk.signed()

    reaped = desk.call("reap", NIGHTKILN_VAST_API_KEY="")
    [lease] = desk.lines("leases", NIGHTKILN_VAST_API_KEY="")

    assert "no provider that bills" in str(reaped.exception)
    assert (lease["lease_id"], lease["cause"]) == (LEASE, "unseen")


@pytest.mark.nights
def test_a_service_that_cannot_be_reached_is_exit_code_3(desk: Desk) -> None:
    result = desk.call("reap", NIGHTKILN_VAST_URL="http://127.0.0.1:9")

    assert result.exit_code == 3, result.output
    assert "cannot be reached" in " ".join(result.stdout.split())


def test_an_empty_fleet_is_refused_before_anybody_is_asked(desk: Desk) -> None:
    result = desk.call("reap", NIGHTKILN_FLEET="")

    assert "setting fleet" in str(result.exception)


def test_doctor_sees_leases_that_should_have_ended_and_a_folder_that_others_can_read(
    desk: Desk,
) -> None:
    entry = desk.rent()
    clean = desk.doctor()
    desk.book.extended(entry.lease_id, expires_s=time.time() - 60)
    (desk.folder / "state").chmod(0o755)

    ill = desk.doctor()

    assert clean["leases"]["said"] == f"1 may be billed now: {LEASE}; see nightkiln leases"
    assert ill["leases"]["is_good"] is False
    assert ill["state"]["is_good"] is False
    assert "chmod 700" in ill["state"]["fix"]


def test_stop_all_asks_every_run_of_the_store_and_refuses_what_is_unclear(desk: Desk) -> None:
    from nightkiln.store.claims import claim_json, claim_key
    from nightkiln.store.processes import this_process
    from nightkiln.store.store import Store

    elsewhere = desk.folder / "elsewhere"
    for place in (desk.folder / "store", elsewhere):
        blobs = Store.open(str(place), create=True).blobs
        Store.open(str(place)).prepare(now_s=time.time())
        for batch in ("one", "two"):
            blobs.create(claim_key(batch, 1), claim_json(this_process(), time.time()))
    offer = Offer("vast", "1", usd_per_hour=Decimal("0.3"))
    desk.book.intend(Entry(LEASE, "one", 1, str(elsewhere), offer, time.time(), time.time() + 9))

    asked = desk.lines("stop", "--all", "--now")

    assert [(each["batch"], Path(each["store"]).name) for each in asked] == [
        ("one", "store"),
        ("two", "store"),
        ("one", "elsewhere"),
        ("two", "elsewhere"),
    ]
    assert all(each["now"] for each in asked)
    # A run that holds nothing at this moment is found by its signs of life; a store that cannot
    # be read keeps nobody from stopping the others.
    desk.book.ended(LEASE, ended_s=time.time())
    desk.book.forget(LEASE)
    desk.book.alive(Owner("one", 1, str(elsewhere), time.time()))
    (desk.folder / "store" / "claims" / "one").rename(desk.folder / "away")
    (desk.folder / "store" / "claims" / "one").write_text("no folder")
    again = desk.call("stop", "--all", "--json")
    assert [json.loads(each)["store"] for each in again.stdout.splitlines() if "elsewhere" in each]
    assert "neither a batch nor --all" in str(desk.call("stop").exception)
    assert "a batch and --all" in str(desk.call("stop", "one", "--all").exception)


@pytest.mark.nights
def test_no_key_is_in_what_a_command_leaves_behind(desk: Desk) -> None:
    desk.rent()
    desk.signed(has_ended=True)
    desk.call("leases")
    desk.call("reap", "--yes", "--json")

    files = [Path(at) / name for at, _, names in os.walk(desk.folder) for name in names]
    assert files
    assert all(desk.market.key.encode() not in file.read_bytes() for file in files)
    assert all(desk.market.key not in str(each) for each in desk.market.requests)
