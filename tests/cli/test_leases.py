"""leases, reap, stop --all, doctor and quote against a Vast.ai that is none."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from nightkiln import cli
from nightkiln.core.model import LeaseId, Need, Offer
from nightkiln.lease_book import Entry, LeaseBook, Owner
from nightkiln.places import that_bill
from nightkiln.settings import load_settings
from nightkiln.testing.samples import write_catalog
from nightkiln.testing.vast_market import Rules, VastMarket
from nightkiln.testing.vast_market.beside import beside
from nightkiln.testing.vast_market.samples import quiet_night

LEASE = LeaseId("nightly-1-lease-000")
HOUR_S = 3600.0


@dataclass
class Desk:
    """One user's computer with a key for the market."""

    market: VastMarket
    folder: Path

    @property
    def book(self) -> LeaseBook:
        return LeaseBook(self.folder / "state")

    def call(self, *arguments: str, **environment: str) -> Result:
        ours = {
            "NIGHTKILN_VAST_URL": self.market.url,
            "NIGHTKILN_VAST_API_KEY": self.market.key,
            "NIGHTKILN_STATE": str(self.folder / "state"),
            "NIGHTKILN_STORE": str(self.folder / "store"),
            **environment,
        }
        result = CliRunner(env=ours).invoke(cli.app, list(arguments))
        assert self.market.key not in result.output, "a key is never shown"
        return result

    def lines(self, *arguments: str, **environment: str) -> list[dict[str, Any]]:
        output = self.call(*arguments, "--json", **environment).stdout
        return [json.loads(line) for line in output.splitlines()]

    def rent(self, lease_id: LeaseId = LEASE, *, fleet: str = "main") -> Entry:
        """As a run does: written down, then rented; nobody has signed for it yet."""
        settings = load_settings(
            vast_api_key=self.market.key,
            vast_url=self.market.url,
            state=str(self.folder / "state"),
            fleet=fleet,
        )

        async def rented() -> Offer:
            [provider] = that_bill(settings).values()
            async with provider:
                [offer] = await provider.offers(Need(), limit=1)
                now_s = time.time()
                entry = Entry(
                    lease_id, "nightly", 1, str(self.folder / "store"), offer, now_s, now_s + HOUR_S
                )
                self.book.intend(entry)
                await provider.rent(offer, lease_id, Need(), expires_at_s=now_s + HOUR_S)
            return offer

        asyncio.run(rented())
        self.book.rented(lease_id, host="a machine")
        found = self.book.entry(lease_id)
        assert found is not None
        return found

    def signed(self, *, ago_s: float = 0.0, has_ended: bool = False) -> None:
        self.book.alive(Owner("nightly", 1, time.time() - ago_s, has_ended))

    def billed(self) -> list[str]:
        return [str(each["label"]) for each in self.market.machines() if each["is_billed"]]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with beside(quiet_night(), Rules(speed=200, limits_scale=0)) as market:
        yield Desk(market, tmp_path)


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


def test_an_intent_that_nobody_confirmed_is_told(desk: Desk) -> None:
    entry = desk.rent()
    asyncio.run(_released(desk))
    desk.book.forget(LEASE)
    desk.book.intend(Entry(LEASE, "nightly", 1, "s", entry.offer, time.time() - 5, time.time() + 9))
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


def test_a_service_that_cannot_be_reached_is_exit_code_3(desk: Desk) -> None:
    result = desk.call("reap", NIGHTKILN_VAST_URL="http://127.0.0.1:9")

    assert result.exit_code == 3, result.output
    assert "cannot be reached" in " ".join(result.stdout.split())


def test_an_empty_fleet_is_refused_before_anybody_is_asked(desk: Desk) -> None:
    result = desk.call("reap", NIGHTKILN_FLEET="")

    assert "setting fleet" in str(result.exception)


# What an account says before anything is rented.


def doctors(desk: Desk, *arguments: str, **environment: str) -> dict[str, dict[str, Any]]:
    return {each["what"]: each for each in desk.lines("doctor", *arguments, **environment)}


def test_doctor_tells_the_worst_case_and_warns_of_too_much_credit(desk: Desk) -> None:
    fitting = doctors(desk, "--budget", "20")
    too_much = doctors(desk, "--budget", "5")

    vast = f"vast at {desk.market.url}"
    assert fitting[vast]["is_good"] is True
    assert fitting["worst case"] == {
        "what": "worst case",
        "is_good": True,
        "said": "25.00 USD, all prepaid credit of the account",
        "fix": "move credit elsewhere, or use an account of its own for this",
    }
    assert too_much["worst case"]["is_good"] is False
    assert "more than twice the budget of 5.00" in too_much["worst case"]["said"]


def test_a_wrong_key_is_one_line_with_what_to_do_wherever_it_is_used(
    desk: Desk, tmp_path: Path
) -> None:
    folder = str(write_catalog(tmp_path / "catalog", 2, environment={}))
    wrong, said = {"NIGHTKILN_VAST_API_KEY": "wrong-key-0123456789"}, "the API key is not valid"

    vast = doctors(desk, **wrong)[f"vast at {desk.market.url}"]
    quoted = desk.lines("quote", folder, "--by", "2h", "--budget", "2", **wrong)
    run = desk.call("run", folder, "--budget", "2", "--provider", "vast", "--yes", **wrong)

    assert vast["is_good"] is False
    assert said in vast["said"]
    assert said in quoted[0]["account"]["problem"]
    assert said in str(run.exception)
    assert "\n" not in str(run.exception)
    assert not list((desk.folder / "store").glob("claims/*"))  # doctor has made the store


def test_a_run_does_not_begin_where_the_service_cannot_be_reached(
    desk: Desk, tmp_path: Path
) -> None:
    folder = str(write_catalog(tmp_path / "catalog", 2, environment={}))
    nobody = {"NIGHTKILN_VAST_URL": "http://127.0.0.1:9"}

    run = desk.call("run", folder, "--budget", "2", "--provider", "vast", "--yes", **nobody)

    assert "the service cannot be reached; check the network" in str(run.exception)


def test_an_account_without_credit_rents_nothing(tmp_path: Path) -> None:
    rules = Rules(speed=200, limits_scale=0, credit=Decimal(0))
    folder = str(write_catalog(tmp_path / "catalog", 2, environment={}))
    with beside(quiet_night(), rules) as market:
        desk = Desk(market, tmp_path)
        run = desk.call("run", folder, "--budget", "2", "--provider", "vast", "--yes")

    assert "the account has no credit; add some" in str(run.exception)


def test_no_key_and_no_budget_are_a_line_each(desk: Desk, tmp_path: Path) -> None:
    folder = str(write_catalog(tmp_path / "catalog", 2, environment={}))

    no_key = desk.call("run", folder, "--provider", "vast", NIGHTKILN_VAST_API_KEY="")
    no_budget = desk.call("run", folder, "--provider", "vast")
    nothing = desk.call("run", folder, NIGHTKILN_VAST_API_KEY="")
    strange = desk.call("run", folder, "--provider", "moon")

    assert "--provider vast: there is no API key (set VAST_API_KEY" in str(no_key.exception)
    assert "give --budget 4.00" in str(no_budget.exception)
    assert "--worker-url: no worker to render on" in str(nothing.exception)
    assert "there is no provider 'moon' (one of local, vast, modal)" in str(strange.exception)
    for result in (no_key, no_budget, nothing, strange):
        assert "\n" not in str(result.exception)


def test_doctor_sees_leases_that_should_have_ended_and_a_folder_that_others_can_read(
    desk: Desk,
) -> None:
    entry = desk.rent()
    clean = doctors(desk)
    desk.book.extended(entry.lease_id, expires_s=time.time() - 60)
    (desk.folder / "state").chmod(0o755)

    ill = doctors(desk)

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
    assert "neither a batch nor --all" in str(desk.call("stop").exception)
    assert "a batch and --all" in str(desk.call("stop", "one", "--all").exception)


def test_no_key_is_in_what_a_command_leaves_behind(desk: Desk) -> None:
    desk.rent()
    desk.signed(has_ended=True)
    desk.call("leases")
    desk.call("reap", "--yes", "--json")

    files = [Path(at) / name for at, _, names in os.walk(desk.folder) for name in names]
    assert files
    assert all(desk.market.key.encode() not in file.read_bytes() for file in files)
    assert all(desk.market.key not in str(each) for each in desk.market.requests)
