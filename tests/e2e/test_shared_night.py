"""A night that several controllers work on: every job once, one budget, whoever dies or is late."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from nightkiln.allotment import STOPPED
from nightkiln.cli.status import batches
from nightkiln.core.errors import BadInput, NightkilnError, ShareTaken
from nightkiln.core.sharing import Share
from nightkiln.gate import unquoted
from nightkiln.night import Outcome, StopSwitch
from nightkiln.receipt import receipt_of
from nightkiln.receipt_page import page
from nightkiln.retrying import Retry, retry_of
from nightkiln.settings import Settings, load_settings
from nightkiln.share_out import share_out, workers_of
from nightkiln.share_work import work_on_share
from nightkiln.store.choosing import Wanted
from nightkiln.store.claims import request_stop
from nightkiln.store.processes import this_process
from nightkiln.store.shared_views import connect_as_one
from nightkiln.store.shares import (
    Orders,
    Split,
    StopAsked,
    Ticket,
    order,
    orders_for,
    report_of,
    split_into,
    take,
    tickets,
)
from nightkiln.store.store import Store
from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.priced import PricedWorkers
from nightkiln.testing.samples import INPUTS, write_catalog
from nightkiln.testing.waiting import until
from nightkiln.wiring import Request, chosen_catalog, run_batch
from tests.asking import ask
from tests.watcher import Watcher

JOBS = 24
IN_FLIGHT = 6
DEAD = replace(this_process(), mark="long ago")
ONCE = "select count(*), count(distinct job_id) from jobs where status = 'done'"


@dataclass
class Night:
    """One night, its workers, and its controllers as tasks of this process."""

    folder: Path
    workers: list[StandIn]
    budget: str | None = None
    jobs: int = JOBS
    watcher: Watcher = field(default_factory=Watcher)
    started: dict[str, asyncio.Task[Any]] = field(default_factory=dict)
    dead_on_arrival: set[str] = field(default_factory=set)
    dies: set[str] = field(default_factory=set)  # as soon as it has begun
    busy: set[str] = field(default_factory=set)  # for these nobody has time yet
    called_off: list[str] = field(default_factory=list)
    first: dict[str, Decimal] = field(default_factory=dict)  # that a share was begun with

    @property
    def root(self) -> str:
        return str(self.folder / "store")

    @property
    def store(self) -> Store:
        return Store.open(self.root)

    @property
    def split(self) -> Split:
        return split_into(self.store.blobs, "night", wanted=1)

    @property
    def settings(self) -> Settings:
        urls = [worker.url for worker in self.workers]
        state = str(self.folder / "state")
        return load_settings(store=self.root, worker_urls=urls, budget=self.budget, state=state)

    def request(self) -> Request:
        return Request(chosen_catalog(self.folder / "catalog", limit=self.jobs), name="night")

    def rents(self, urls: tuple[str, ...]) -> Mapping[str, PricedWorkers] | None:
        return {"cloud": PricedWorkers(urls)} if self.budget is not None else None

    async def run(self, of: int = 2, *, switch: StopSwitch | None = None) -> Outcome:
        settings = self.settings
        return await share_out(
            self.request(),
            settings,
            self.watcher,
            self,
            of=of,
            switch=switch if switch is not None else StopSwitch(),
            gate=unquoted,
            rents_from=self.rents(settings.worker_urls),
            look_s=0.1,
        )

    # As a starter.

    async def start(self, ticket: Ticket) -> bool:
        orders = orders_for(self.store.blobs, ticket)
        if orders is not None and orders.usd is not None:
            self.first.setdefault(ticket.share.batch, orders.usd)
        if ticket.label in self.busy:
            return False
        if ticket.label in self.dies:
            take(self.store.blobs, ticket, DEAD)
        elif ticket.label not in self.dead_on_arrival and ticket.label not in self.started:
            self.started[ticket.label] = asyncio.create_task(self._work(ticket))
        return True

    async def _work(self, ticket: Ticket) -> Outcome | None:
        settings = self.settings
        mine = workers_of(settings.worker_urls, ticket.share.number, ticket.share.of)
        settings = settings.model_copy(update={"worker_urls": mine})
        try:
            return await work_on_share(
                self.request(),
                settings,
                ticket,
                Watcher(),
                switch=StopSwitch(),
                rents_from=self.rents(mine),
            )
        except NightkilnError:
            return None

    async def will_not_begin(self, ticket: Ticket) -> bool:
        return ticket.label in self.dead_on_arrival

    async def call_off(self, ticket: Ticket) -> None:
        self.called_off.append(ticket.label)

    async def end(self) -> None:
        await asyncio.gather(*self.started.values(), return_exceptions=True)


@asynccontextmanager
async def night_of(
    folder: Path,
    *,
    rows: Any = JOBS,
    workers: int = 2,
    render_s: float | Sequence[float] = 0.0,  # of all of them, or of each
    faults: tuple[str, ...] = (),
    **more: Any,
) -> AsyncIterator[Night]:
    write_catalog(folder / "catalog", rows, **more)
    each_s = [render_s] * workers if isinstance(render_s, float) else render_s
    servers = [StandIn(render_s=seconds, faults=faults) for seconds in each_s]
    async with asyncio.TaskGroup() as group:
        for server in servers:
            group.create_task(server.__aenter__())
    night = Night(folder, servers)
    try:
        yield night
    finally:
        await night.end()
        for server in servers:
            await server.__aexit__(None, None, None)


async def test_two_controllers_render_every_job_once_into_one_store(tmp_path: Path) -> None:
    async with night_of(tmp_path) as night:
        outcome = await night.run()

    assert (outcome.batch, outcome.exit_code) == ("night", 0)
    assert (outcome.total, outcome.done, outcome.left) == (JOBS, JOBS, 0)
    assert ask(night.store, ONCE) == [(JOBS, JOBS)]
    batches = ask(night.store, "select distinct batch from jobs order by 1")
    assert batches == [("night-1of2",), ("night-2of2",)]
    assert sum(len(worker.renders) for worker in night.workers) == JOBS
    assert all(worker.renders for worker in night.workers)


async def test_rows_that_mean_the_same_job_are_rendered_once(tmp_path: Path) -> None:
    rows = [{"id": f"row-{n}", "prompt": f"sample prompt {n % 5}"} for n in range(20)]
    async with night_of(tmp_path, rows=rows) as night:
        outcome = await night.run()

    assert outcome.total == 5
    assert sum(len(worker.renders) for worker in night.workers) == 5


async def test_seeds_that_hang_on_the_batch_are_the_same_in_every_share(tmp_path: Path) -> None:
    inputs = {**INPUTS, "seed": {"to": "KSampler.seed", "default": "derived_per_batch"}}
    async with night_of(tmp_path, inputs=inputs) as night:
        outcome = await night.run()

    assert (outcome.total, outcome.done) == (JOBS, JOBS)
    assert ask(night.store, ONCE) == [(JOBS, JOBS)]


async def test_a_night_is_resumed_with_the_shares_that_it_began_with(tmp_path: Path) -> None:
    async with night_of(tmp_path) as night:
        await night.run(of=2)
        night.jobs = JOBS // 2
        again = await night.run(of=1)

    assert (again.total, again.done, again.exit_code) == (JOBS // 2, JOBS // 2, 0)
    assert sum(len(worker.renders) for worker in night.workers) == JOBS
    assert "was split among 2 controllers" in night.watcher.told()


@pytest.mark.nights
async def test_a_controller_that_never_begins_is_replaced_and_can_do_no_harm_later(
    tmp_path: Path,
) -> None:
    async with night_of(tmp_path) as night:
        night.dead_on_arrival.add("night-2of2-1-1")
        outcome = await night.run()
        [_, second] = tickets(night.store.blobs, "night", 1, night.split)
        with pytest.raises(ShareTaken):
            await work_on_share(
                night.request(), night.settings, second[0], Watcher(), switch=StopSwitch()
            )

    assert (outcome.exit_code, outcome.done) == (0, JOBS)
    assert "night-2of2-1-2" in night.started
    assert sum(len(worker.renders) for worker in night.workers) == JOBS


async def test_a_controller_that_is_cut_short_is_started_again_and_repeats_nothing(
    tmp_path: Path,
) -> None:
    async with night_of(tmp_path, render_s=0.1) as night:
        running = asyncio.create_task(night.run())
        await until(lambda: all(len(worker.renders) > 2 for worker in night.workers))
        night.started["night-2of2-1-1"].cancel()
        outcome = await running

    assert (outcome.exit_code, outcome.done) == (0, JOBS)
    assert "night-2of2 was cut short" in night.watcher.told()
    assert sum(len(worker.renders) for worker in night.workers) <= JOBS + IN_FLIGHT


async def test_a_controller_that_died_without_a_word_is_replaced(tmp_path: Path) -> None:
    async with night_of(tmp_path) as night:
        night.budget = "4.00"
        night.dies.add("night-1of2-1-1")
        outcome = await night.run()

    assert (outcome.exit_code, outcome.done) == (0, JOBS)
    assert "night-1of2 is lost" in night.watcher.told()
    assert "night-1of2-1-2" in night.started
    assert outcome.usd_open == 0


@pytest.mark.nights
async def test_when_whoever_watches_dies_its_controllers_go_on_and_the_next_one_finds_them(
    tmp_path: Path,
) -> None:
    async with night_of(tmp_path, render_s=0.2) as night:
        night.budget = "4.00"
        running = asyncio.create_task(night.run())
        await until(lambda: all(worker.renders for worker in night.workers))
        running.cancel()
        await asyncio.wait([running])
        outcome = await night.run()

    assert (outcome.exit_code, outcome.done) == (0, JOBS)
    assert sorted(night.started) == ["night-1of2-1-1", "night-2of2-1-1"]
    assert ask(night.store, ONCE) == [(JOBS, JOBS)]


@pytest.mark.nights
async def test_a_share_that_waits_for_a_free_worker_begins_when_there_is_one(
    tmp_path: Path,
) -> None:
    async with night_of(tmp_path) as night:
        night.busy.add("night-2of2-1-1")
        running = asyncio.create_task(night.run())
        await until(lambda: "night-1of2-1-1" in night.started)
        await night.started["night-1of2-1-1"]
        night.busy.clear()
        outcome = await running

    assert (outcome.exit_code, outcome.done) == (0, JOBS)


async def test_the_budget_is_divided_to_the_cent_and_by_the_jobs(tmp_path: Path) -> None:
    async with night_of(tmp_path) as night:
        night.budget = "7.01"
        outcome = await night.run()

    jobs = dict(ask(night.store, "select batch, count(*) from jobs group by 1"))
    assert sum(night.first.values()) == Decimal("7.01")
    for batch, usd in night.first.items():
        assert abs(usd - Decimal("7.01") * jobs[batch] / JOBS) < Decimal("0.01")
    assert (outcome.exit_code, outcome.done) == (0, JOBS)
    spent = ask(night.store, "select sum(usd), count(distinct batch) from leases")
    assert spent == [(outcome.usd, 2)]
    assert Decimal(0) < outcome.usd < Decimal("7.01")


@pytest.mark.nights
async def test_what_one_controller_does_not_need_is_given_to_the_other_while_it_works(
    tmp_path: Path,
) -> None:
    async with night_of(tmp_path, render_s=(0.0, 0.8)) as night:
        night.budget = "4.00"
        running = asyncio.create_task(night.run())
        await until(lambda: len(night.started) == 2)
        blobs = night.store.blobs
        [[_], [slow]] = tickets(blobs, "night", 1, night.split)

        def has_heard_of_more() -> bool:
            told = report_of(blobs, slow)
            limit = told.limit if told is not None else None
            return limit is not None and limit > night.first["night-2of2"]

        await until(has_heard_of_more)
        raised, was_at_work = report_of(blobs, slow), not running.done()
        outcome = await running

    given = orders_for(blobs, slow)
    assert raised is not None
    assert given is not None
    assert was_at_work
    assert not raised.has_ended
    assert sum(night.first.values()) == Decimal("4.00")
    assert given.number > 1
    assert given.usd is not None
    assert given.usd > Decimal("3.90")  # all but what the other one came to
    [(spent,)] = ask(night.store, "select sum(usd) from leases")
    assert (outcome.exit_code, outcome.done, outcome.usd) == (0, JOBS, spent)
    [(fast,)] = ask(night.store, "select sum(usd) from leases where batch = 'night-1of2'")
    assert fast + given.usd <= Decimal("4.00")


@pytest.mark.nights
async def test_more_money_is_heard_in_the_middle_of_a_run(tmp_path: Path) -> None:
    async with night_of(tmp_path, render_s=0.3, workers=1) as night:
        night.budget = "2.00"
        running = asyncio.create_task(night.run(of=1))
        await until(lambda: bool(night.started))
        blobs = night.store.blobs
        ticket = tickets(blobs, "night", 1, night.split)[0][0]
        await until(lambda: (told := report_of(blobs, ticket)) is not None and told.done > 0)
        before = orders_for(blobs, ticket)
        assert before is not None
        usd = Decimal("1.50")
        order(blobs, ticket, replace(before, number=before.number + 1, usd=usd))

        def is_heard() -> bool:
            told = report_of(blobs, ticket)
            return told is not None and told.orders == before.number + 1 and told.limit == usd

        await until(is_heard)
        outcome = await running

    assert (outcome.exit_code, outcome.done) == (0, JOBS)


@pytest.mark.nights
@pytest.mark.parametrize("way", ["switch", "nightkiln stop"])
async def test_stopping_the_night_stops_every_controller(tmp_path: Path, way: str) -> None:
    switch = StopSwitch()
    async with night_of(tmp_path, render_s=0.4) as night:
        night.busy.add("night-2of2-1-1")
        running = asyncio.create_task(night.run(switch=switch))
        await until(lambda: any(worker.renders for worker in night.workers))
        if way == "switch":
            switch.ask("stopped by SIGTERM", is_now=True)
        else:
            request_stop(night.store.blobs, "night", now=True, requested_s=0.0)
        outcome = await running

        assert outcome.exit_code == 3
        assert 0 < outcome.left < JOBS
        assert "stopped by" in str(outcome.stop_reason)
        assert night.called_off == ["night-2of2-1-1"]
        share = await night.started["night-1of2-1-1"]
        assert share.stop_reason == STOPPED

        night.busy.clear()
        resumed = await night.run()

    assert (resumed.exit_code, resumed.done) == (0, JOBS)
    assert ask(night.store, ONCE) == [(JOBS, JOBS)]


async def test_a_share_that_begins_just_as_its_night_is_stopped_hears_of_it(
    tmp_path: Path,
) -> None:
    async with night_of(tmp_path, render_s=0.5) as night:
        store = Store.open(night.root, create=True)
        ticket = Ticket(Share("night", 1, 1), 1, 1)
        order(store.blobs, ticket, Orders(2, None, stop=StopAsked.NOW))
        outcome = await work_on_share(
            night.request(), night.settings, ticket, Watcher(), switch=StopSwitch()
        )

    assert (outcome.exit_code, outcome.stop_reason) == (3, STOPPED)
    assert outcome.done < JOBS


async def test_more_controllers_than_workers_of_ones_own_are_refused(tmp_path: Path) -> None:
    async with night_of(tmp_path) as night:
        with pytest.raises(BadInput, match="controllers: 3 controllers have only 2 workers"):
            await night.run(of=3)

    assert not (tmp_path / "store").exists()


@pytest.mark.nights
async def test_a_share_that_fails_again_and_again_ends_the_night_with_the_reason(
    tmp_path: Path,
) -> None:
    async with night_of(tmp_path) as night:
        night.dead_on_arrival.update(f"night-1of2-1-{start}" for start in range(1, 9))
        outcome = await night.run()

    assert outcome.exit_code == 3
    assert "was started 5 times in vain" in str(outcome.stop_reason)


async def test_a_shared_night_is_told_as_one(tmp_path: Path) -> None:
    async with night_of(tmp_path) as night:
        await night.run()

    last = night.watcher.latest
    assert last is not None
    assert (last.batch, last.total, last.done) == ("night", JOBS, JOBS)
    assert [one.lease_id for one in last.workers] == ["night-1of2", "night-2of2"]
    assert {one.state for one in last.workers} == {"ended"}
    said = night.watcher.told()
    assert f"batch night: {JOBS} jobs, 0 settled before" in said
    assert "batch night is shared out to 2 controllers" in said
    assert said.count("night-1of2 is worked on by") == said.count("night-1of2 has ended on") == 1


def test_orders_survive_the_way_through_the_store(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"), create=True)
    ticket = Ticket(Share("night", 1, 2), 1, 1)
    told = Orders(3, Decimal("1.25"), Decimal("2.50"))
    order(store.blobs, ticket, told)

    assert orders_for(store.blobs, ticket) == told


async def test_a_shared_night_is_asked_as_if_it_were_one_batch(tmp_path: Path) -> None:
    async with night_of(tmp_path) as night:
        night.budget = "7.00"
        outcome = await night.run()

    [whole, *shares] = batches(night.store, now_s=time.time())
    assert (whole["batch"], whole["done"], whole["left"]) == ("night", JOBS, 0)
    assert sum(share["done"] for share in shares) == JOBS
    with connect_as_one(night.store, "night") as con:
        jobs = con.execute("select batch, count(*) from jobs where status = 'done' group by 1")
        assert jobs.fetchall() == [("night", JOBS)]
        paid = con.execute("select batch, sum(usd), max(epoch) from leases group by 1")
        assert paid.fetchall() == [("night", outcome.usd, outcome.epoch)]
        runs = con.execute("select epoch, exit_code from runs where batch = 'night'")
        assert runs.fetchall() == [(1, 0)]
        wasted = con.execute("select batch, count(*) from waste group by 1").fetchall()
        assert wasted == [("night", 2)]
    with connect_as_one(night.store, "night-1of2") as con:
        assert con.execute("select distinct batch from jobs order by 1").fetchall() == [
            ("night-1of2",),
            ("night-2of2",),
        ]


async def test_there_is_one_receipt_over_all_shares(tmp_path: Path) -> None:
    async with night_of(tmp_path) as night:
        night.budget = "7.00"
        outcome = await night.run()

    told = receipt_of(night.store, "night")
    assert (told.jobs, told.done, told.failed, told.left) == (JOBS, JOBS, 0, 0)
    assert [(run.epoch, run.exit_code, run.usd) for run in told.runs] == [(1, 0, outcome.usd)]
    [paid] = told.paid
    assert (paid.provider, paid.leases, paid.usd) == ("cloud", 2, outcome.usd)
    assert told.images.endswith("images/night-*")
    assert "night" in page(told)


async def test_a_retry_of_a_shared_night_names_the_shares_and_each_of_them_can_be_retried(
    tmp_path: Path,
) -> None:
    jobs, inputs = 6, {**INPUTS, "seed": {"to": "KSampler.seed", "default": "derived_per_batch"}}
    async with night_of(tmp_path, rows=jobs, inputs=inputs, faults=("error",)) as night:
        failed = await night.run()
    before = dict(ask(night.store, "select batch, count(*) from jobs group by 1"))

    with pytest.raises(BadInput) as refused:
        again(night, "night")
    async with StandIn() as server:
        settings = night.settings.model_copy(update={"worker_urls": (server.url,)})
        for share, count in before.items():
            found = again(night, share)
            assert found.request is not None
            outcome = await run_batch(found.request, settings, Watcher())
            assert (outcome.total, outcome.done, outcome.left_out) == (count, count, 0)

    assert (failed.failed, failed.exit_code) == (jobs, 1)
    for share, count in before.items():
        assert f"{share} ({count:,} jobs)" in str(refused.value)
    assert "retry each of them by its own name, such as --name night-1of2" in str(refused.value)
    told = receipt_of(night.store, "night")
    assert (told.jobs, told.done, told.failed) == (jobs, jobs, 0)
    [whole, *_] = batches(night.store, now_s=time.time())
    assert (whole["batch"], whole["done"], whole["left"]) == ("night", jobs, 0)
    assert again(night, "night").request is None


def again(night: Night, name: str) -> Retry:
    """What ``nightkiln retry`` would work on."""
    request = replace(night.request(), name=name)
    return retry_of(
        request, night.settings, Wanted(), is_reseed=False, is_forced=False, now_s=time.time()
    )
