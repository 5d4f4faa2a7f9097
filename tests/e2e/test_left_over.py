"""Machines that a dead run has left: the next run of its batch uses them or gives them back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from nightkiln.closing import close_lease
from nightkiln.core.errors import StoreUnusable
from nightkiln.core.model import LeaseId, Need, Offer
from nightkiln.gate import unquoted
from nightkiln.lease_book import Entry, LeaseBook, Owner, Standing
from nightkiln.night import Outcome
from nightkiln.ports.provider import Charge, Used
from nightkiln.settings import load_settings
from nightkiln.store.store import Store
from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.priced import PricedWorkers
from nightkiln.testing.samples import write_catalog
from nightkiln.testing.waiting import until
from nightkiln.wiring import Request, chosen_catalog, run_batch
from tests.e2e.test_release import Ears

JOBS, HOUR_S = 6, 3600.0
OLD = LeaseId("night-0-lease-003")  # of a run that is dead


@dataclass
class Service:
    """What outlives every run: the machines, and whom they are rented to."""

    urls: list[str]
    rented: dict[LeaseId, str] = field(default_factory=dict)
    rents: list[LeaseId] = field(default_factory=list)
    releases: list[list[LeaseId]] = field(default_factory=list)
    bills: list[Charge] = field(default_factory=list)
    verbs: list[str] = field(default_factory=list)
    used: dict[LeaseId, Used] = field(default_factory=dict)


class Rental(PricedWorkers):
    """A connection to the service."""

    can_list = True

    def __init__(self, service: Service) -> None:
        super().__init__(service.urls)
        self.service = service

    async def offers(self, need: Need, *, limit: int) -> Sequence[Offer]:
        free = await super().offers(need, limit=limit)
        return [offer for offer in free if offer.ref not in self.service.rented.values()]

    async def rent(
        self, offer: Offer, lease_id: LeaseId, need: Need, *, expires_at_s: float
    ) -> Any:
        self.service.verbs.append("rent")
        lease = await super().rent(offer, lease_id, need, expires_at_s=expires_at_s)
        if lease_id not in self.service.rented:
            self.service.rents.append(lease_id)
        self.service.rented[lease_id] = offer.ref
        return lease

    async def release(self, lease_ids: Sequence[LeaseId]) -> None:
        self.service.releases.append(list(lease_ids))
        for lease_id in lease_ids:
            self.service.rented.pop(lease_id, None)
        await super().release(lease_ids)

    async def owned(self) -> Sequence[LeaseId]:
        self.service.verbs.append("owned")
        return list(self.service.rented)

    def used(self, lease_id: LeaseId) -> Used | None:
        return self.service.used.get(lease_id)

    async def charges(self, *, since_s: float) -> Sequence[Charge]:
        del since_s
        return self.service.bills


@dataclass
class Scene:
    folder: Path
    service: Service
    ears: Ears = field(default_factory=Ears)

    @property
    def book(self) -> LeaseBook:
        return LeaseBook(self.folder / "state")

    @property
    def root(self) -> str:
        return str(self.folder / "store")

    async def run(self, *, limit: int = JOBS) -> Outcome:
        return await run_batch(
            Request(chosen_catalog(self.folder / "catalog", limit=limit), name="night"),
            load_settings(store=self.root, budget="20", release_s=1.0),
            self.ears,
            rents_from={"cloud": Rental(self.service)},
            gate=unquoted,
            book=self.book,
        )

    def left(self, lease_id: LeaseId = OLD, *, age_s: float = 1200.0, url: str = "") -> Entry:
        """What a dead run has written down of a machine."""
        now_s, url = time.time(), url or self.service.urls[0]
        offer = Offer("cloud", url, "RTX 4090", Decimal("1.00"))
        offer = replace(offer, kind="on_demand")  # type: ignore[arg-type]
        entry = Entry(lease_id, "night", 0, self.root, offer, now_s - age_s, now_s - age_s + HOUR_S)
        self.book.intend(entry)
        self.book.rented(lease_id, host="machine 7")
        return entry

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with Store.open(self.root).connect() as con:
            return con.execute(sql).fetchall()


@asynccontextmanager
async def scene(folder: Path, machines: int = 1) -> AsyncIterator[Scene]:
    write_catalog(folder / "catalog", JOBS)
    workers = [StandIn() for _ in range(machines)]
    for worker in workers:
        await worker.__aenter__()
    try:
        yield Scene(folder, Service([worker.url for worker in workers]))
    finally:
        for worker in workers:
            await worker.__aexit__(None, None, None)


async def test_what_is_rented_is_in_the_book_as_long_as_it_costs(tmp_path: Path) -> None:
    async with scene(tmp_path) as night:
        seen: list[tuple[Standing, bool]] = []

        class Watching(Rental):
            async def rent(self, offer: Offer, lease_id: LeaseId, need: Need, **rest: Any) -> Any:
                entry, owner = night.book.entry(lease_id), night.book.owner("night", 1)
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

        owner = night.book.owner("night", 1)

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
        night.book.alive(Owner("night", 0, entry.asked_s + 600.0))

        await night.run()

    [(lived_s, usd, reason)] = night.ask(
        "select epoch(released_at) - epoch(rented_at), usd, reason from leases "
        "where lease_id = 'night-0-lease-003'"
    )
    assert lived_s == pytest.approx(600 + 900, abs=0.01)  # its last sign of life, and N
    assert usd == Decimal("0.416667")
    assert reason.startswith("its run died")
    assert night.book.entries() == []
    assert night.book.owner("night", 0) is None


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
    owner = night.book.owner("night", 1)
    assert owner is not None
    assert owner.has_ended


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
