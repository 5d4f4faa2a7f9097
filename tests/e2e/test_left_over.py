"""Machines that a dead run has left: the next run of its batch uses them or gives them back."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from nightkiln.closing import close_lease
from nightkiln.core.errors import StoreUnusable
from nightkiln.core.model import LeaseId, Need, Offer
from nightkiln.core.terms import Load
from nightkiln.gate import unquoted
from nightkiln.lease_book import Owner, Standing
from nightkiln.ports.provider import Charge, Used
from nightkiln.settings import load_settings
from nightkiln.store.store import Store
from nightkiln.testing.waiting import until
from nightkiln.wiring import Request, chosen_catalog, run_batch
from tests.e2e.rental import HOUR_S, JOBS, OLD, Rental, scene


async def test_what_is_rented_is_in_the_book_as_long_as_it_costs(tmp_path: Path) -> None:
    async with scene(tmp_path) as night:
        seen: list[tuple[Standing, bool]] = []

        class Watching(Rental):
            async def rent(self, offer: Offer, lease_id: LeaseId, need: Need, **rest: Any) -> Any:
                entry, owner = night.book.entry(lease_id), night.owner()
                assert entry is not None
                assert owner is not None
                seen.append((entry.standing, owner.has_ended))
                return await super().rent(offer, lease_id, need, **rest)

        outcome = await run_batch(
            Request(chosen_catalog(night.folder / "catalog"), name="night"),
            load_settings(store=night.root, budget="20"),
            night.ears,
            rents_from={"cloud": Watching(night.service)},
            gate=unquoted,
            book=night.book,
        )

        owner = night.owner()

    assert outcome.exit_code == 0
    assert seen[0] == (Standing.INTENDED, False)
    assert night.book.entries() == []
    assert owner is not None
    assert owner.has_ended


async def test_a_warm_machine_of_a_dead_run_is_gone_on_with(tmp_path: Path) -> None:
    async with scene(tmp_path) as night:
        entry = night.left()
        night.service.rented[OLD] = night.service.urls[0]

        outcome = await night.run()

    assert (outcome.exit_code, outcome.done) == (0, JOBS)
    assert night.service.rents == []
    assert night.service.rented == {}
    assert night.book.entries() == []
    [(rented_s, jobs_done, epoch, usd, billed_s)] = night.ask(
        "select epoch(rented_at), jobs_done, epoch, usd, gpu_billed_s from leases"
    )
    assert rented_s == pytest.approx(entry.asked_s, abs=0.01)
    assert (jobs_done, epoch) == (JOBS, 1)
    assert 1200 <= billed_s < 1300
    assert float(usd) == pytest.approx(billed_s / HOUR_S, abs=1e-5)
    assert outcome.usd == usd


async def test_nothing_is_rented_before_it_is_known_what_is_ours(tmp_path: Path) -> None:
    async with scene(tmp_path, machines=2) as night:
        await night.run()

    verbs = night.service.verbs
    assert verbs.index("owned") < verbs.index("rent")


async def test_leases_of_other_batches_and_other_stores_are_not_touched(tmp_path: Path) -> None:
    async with scene(tmp_path, machines=3) as night:
        elsewhere = replace(night.left(LeaseId("night-0-lease-009")), store="/other")
        night.book.taken_over(elsewhere)
        theirs = {
            LeaseId("morning-1-lease-000"): night.service.urls[1],
            elsewhere.lease_id: night.service.urls[2],
        }
        night.service.rented.update(theirs)

        outcome = await night.run()

    assert outcome.exit_code == 0
    assert night.service.rented == theirs
    assert not any(set(theirs) & set(together) for together in night.service.releases)
    assert [entry.store for entry in night.book.entries()] == ["/other"]


async def test_a_lease_of_this_batch_that_nobody_wrote_down_is_given_back(tmp_path: Path) -> None:
    async with scene(tmp_path, machines=2) as night:
        night.service.rented[OLD] = night.service.urls[1]

        outcome = await night.run()

    assert outcome.exit_code == 0
    assert night.service.rented == {}
    assert OLD not in {lease_id for (lease_id,) in night.ask("select lease_id from leases")}


async def test_what_died_with_its_run_is_booked_until_it_must_have_ended(tmp_path: Path) -> None:
    async with scene(tmp_path) as night:
        entry = night.left(age_s=3000.0)
        night.book.alive(Owner("night", 0, night.root, entry.asked_s + 600.0))

        await night.run()

    [(lived_s, usd, reason)] = night.ask(
        "select epoch(released_at) - epoch(rented_at), usd, reason from leases "
        "where lease_id = 'night-0-lease-003'"
    )
    assert lived_s == pytest.approx(600 + 900, abs=0.01)  # its last sign of life, and N
    assert usd == Decimal("0.416667")
    assert reason.startswith("its run died")
    assert night.book.entries() == []
    assert night.owner(0) is None


async def test_a_lease_asked_for_just_before_the_crash_may_still_turn_up(tmp_path: Path) -> None:
    async with scene(tmp_path) as night:
        entry = night.left(age_s=60.0)
        night.book.taken_over(replace(entry, standing=Standing.INTENDED))

        await night.run()

    assert [one.lease_id for one in night.book.entries()] == [OLD]
    assert night.ask("select count(*) from leases where lease_id = 'night-0-lease-003'") == [(0,)]


async def test_a_batch_that_is_done_gives_back_what_its_run_could_not(tmp_path: Path) -> None:
    async with scene(tmp_path, machines=2) as night:
        await night.run()
        night.left()
        night.service.rented[OLD] = night.service.urls[1]

        outcome = await night.run()
        again = await night.run()

    assert (outcome.exit_code, again.exit_code) == (0, 0)
    assert night.service.rented == {}
    assert night.book.entries() == []
    assert night.ask("select reason from leases where lease_id = 'night-0-lease-003'") == [
        ("left by an earlier run; there is no work for it",)
    ]
    assert night.service.verbs.count("owned") == 2  # the third run has nothing to see to


async def test_a_run_that_is_cancelled_twice_gives_everything_back_all_the_same(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path, machines=2) as night:
        running = asyncio.create_task(night.run())
        await until(lambda: len(night.service.rented) == 2 or running.done())
        running.cancel()
        await asyncio.sleep(0)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    assert night.service.rented == {}
    assert night.book.entries() == []
    owner = night.owner()
    assert owner is not None
    assert owner.has_ended


async def test_a_machine_that_a_later_run_took_over_is_left_to_it(tmp_path: Path) -> None:
    """A run was asleep for so long that another one took its batch and its machines."""
    async with scene(tmp_path) as night:
        running = asyncio.create_task(night.run())
        await until(lambda: "connected" in night.service.verbs)
        [entry] = night.book.entries()
        night.book.taken_over(replace(entry, epoch=2, standing=Standing.RENTED))

        await running

        assert list(night.service.rented) == [entry.lease_id]
        assert [each.epoch for each in night.book.entries()] == [2]
        assert night.ask("select count(*) from leases") == [(0,)]


async def test_what_a_record_of_a_dead_run_costs_counts_what_it_was_sent(tmp_path: Path) -> None:
    async with scene(tmp_path) as night:
        entry = night.left(age_s=3000.0)
        dear = replace(entry.offer, usd_per_gb_in=Decimal("0.02"))
        entry = replace(entry, offer=dear, load=Load(image_gb=5.0, models_gb=7.0))
        night.book.taken_over(entry)
        await night.run()

    [(usd_in, gb_in)] = night.ask(
        "select usd_in, gb_in from leases where lease_id = 'night-0-lease-003'"
    )
    assert (usd_in, gb_in) == (Decimal("0.240000"), 12.0)


async def test_without_the_book_nothing_is_rented(tmp_path: Path) -> None:
    async with scene(tmp_path) as night:
        (tmp_path / "state").write_text("no folder")

        with pytest.raises(StoreUnusable):
            await night.run()

    assert night.service.rents == []


async def test_what_the_provider_has_billed_is_read_at_the_end(tmp_path: Path) -> None:
    async with scene(tmp_path) as night:
        night.left()
        night.service.rented[OLD] = night.service.urls[0]
        night.service.bills = [
            Charge(OLD, Decimal("0.5"), Decimal("0.1"), Decimal(0), Decimal(0)),
            Charge(LeaseId("morning-1-lease-0"), Decimal(7), Decimal(0), Decimal(0), Decimal(0)),
        ]

        outcome = await night.run()

    assert outcome.usd_billed == Decimal("0.6")
    [(billed, estimated, usd)] = night.ask("select usd_billed, usd_estimated, usd from leases")
    assert billed == Decimal("0.6")
    assert estimated == outcome.usd
    assert usd == billed  # a bill that is dearer already counts; a lower one may still grow
    assert night.ask("select lease_id from charges") == [(OLD,)]


async def test_a_bill_that_cannot_be_kept_is_told_and_ends_no_run(tmp_path: Path) -> None:
    async with scene(tmp_path) as night:
        night.left()
        night.service.rented[OLD] = night.service.urls[0]
        night.service.bills = [
            Charge(OLD, Decimal("0.5"), Decimal(0), Decimal(0), Decimal(0)),
        ]

        def full(verb: str) -> None:
            if verb == "release":
                folder = tmp_path / "store" / "charges"
                shutil.rmtree(folder, ignore_errors=True)
                folder.write_text("no folder")

        night.service.on_verb = full
        outcome = await night.run()

    assert (outcome.exit_code, outcome.done, outcome.usd_billed) == (0, JOBS, None)
    assert "what cloud has billed is not known yet" in str(night.ears.events["warning"])


async def test_what_the_provider_saw_of_its_use_is_what_counts(tmp_path: Path) -> None:
    async with scene(tmp_path) as night:
        night.left()
        night.service.rented[OLD] = night.service.urls[0]
        night.service.used[OLD] = Used(gpu_s=360.0, storage_s=1200.0)

        outcome = await night.run()

    assert night.ask("select usd, gpu_billed_s from leases") == [(Decimal("0.100000"), 360.0)]
    assert outcome.usd == Decimal("0.1")


async def test_whoever_ends_a_lease_without_being_its_run_can_close_it(tmp_path: Path) -> None:
    async with scene(tmp_path) as night:
        await night.run()
        entry, store = night.left(age_s=3000.0), Store.open(night.root)

        wrote = [close_lease(store, entry, until_s=entry.asked_s + 1800, reason="swept")]
        wrote += [close_lease(store, entry, until_s=entry.asked_s + 2000, reason="again")]

    assert wrote == [True, False]
    assert night.ask(
        "select usd, reason, released_at > rented_at from leases "
        "where lease_id = 'night-0-lease-003'"
    ) == [(Decimal("0.500000"), "swept", True)]
