"""A service that rents out running ComfyUI servers, and runs there that come and go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from nightkiln.comfy import ComfyWorker
from nightkiln.core.model import Lease, LeaseId, Need, Offer
from nightkiln.gate import unquoted
from nightkiln.lease_book import Entry, LeaseBook, Owner
from nightkiln.night import Outcome, StopSwitch
from nightkiln.ports.provider import Billed, Charge, Used
from nightkiln.settings import load_settings
from nightkiln.store.store import Store
from nightkiln.testing.comfyui import StandIn
from nightkiln.testing.priced import PricedWorkers
from nightkiln.testing.samples import write_catalog
from nightkiln.wiring import Request, chosen_catalog, run_batch
from tests.asking import ask as asked
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
    trust: dict[str, str] = field(default_factory=dict)  # of machines, by address; else ANY
    on_verb: Callable[[str], None] = lambda _: None  # hears what is about to happen

    def hear(self, verb: str) -> None:
        self.verbs.append(verb)
        self.on_verb(verb)


class Rental(PricedWorkers):
    """A connection to the service."""

    can_list = True

    def __init__(self, service: Service) -> None:
        super().__init__(service.urls)
        self.service = service

    async def offers(self, need: Need, *, limit: int) -> Sequence[Offer]:
        free = await super().offers(need, limit=limit)
        taken, trust = self.service.rented.values(), self.service.trust
        return [
            replace(offer, trust=trust.get(offer.ref, "any"))
            for offer in free
            if offer.ref not in taken
        ]

    async def rent(
        self, offer: Offer, lease_id: LeaseId, need: Need, *, expires_at_s: float
    ) -> Any:
        self.service.hear("rent")
        lease = await super().rent(offer, lease_id, need, expires_at_s=expires_at_s)
        if lease_id not in self.service.rented:
            self.service.rents.append(lease_id)
        self.service.rented[lease_id] = offer.ref
        self.service.hear("rented")
        await asyncio.sleep(0)  # the answer takes its time
        return lease

    @asynccontextmanager
    async def connect(self, lease: Lease) -> AsyncIterator[ComfyWorker]:
        self.service.hear("connect")
        async with super().connect(lease) as worker:
            self.service.hear("connected")
            yield worker

    async def release(self, lease_ids: Sequence[LeaseId]) -> None:
        self.service.hear("release")
        self.service.releases.append(list(lease_ids))
        for lease_id in lease_ids:
            self.service.rented.pop(lease_id, None)
        await super().release(lease_ids)

    async def owned(self) -> Sequence[LeaseId]:
        self.service.hear("owned")
        return list(self.service.rented)

    def used(self, lease_id: LeaseId) -> Used | None:
        return self.service.used.get(lease_id)

    async def charges(self, *, since_s: float) -> Sequence[Charge]:
        del since_s
        return self.service.bills


class Telling(Rental):
    """One that can say what it bills."""

    async def billed(self) -> Sequence[Billed]:
        usd = Decimal("1.00")
        return [
            Billed(lease_id, "main", url, usd, None, "running")
            for lease_id, url in self.service.rented.items()
        ]


@dataclass
class Scene:
    folder: Path
    service: Service
    ears: Ears = field(default_factory=Ears)
    made: type[LeaseBook] = LeaseBook

    @property
    def book(self) -> LeaseBook:
        return self.made(self.folder / "state")

    @property
    def root(self) -> str:
        return str(self.folder / "store")

    def owner(self, epoch: int = 1) -> Owner | None:
        return self.book.owner("night", epoch, self.root)

    async def run(
        self,
        *,
        limit: int = JOBS,
        name: str = "night",
        switch: StopSwitch | None = None,
        leases_max: int = 64,
    ) -> Outcome:
        catalog = chosen_catalog(self.folder / "catalog", limit=limit)
        return await run_batch(
            Request(catalog, name=name, is_fresh=name != "night", leases_max=leases_max),
            load_settings(store=self.root, budget="20", release_s=1.0),
            self.ears,
            switch=switch,
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
        return asked(Store.open(self.root), sql)


@asynccontextmanager
async def scene(folder: Path, machines: int = 1, *, render_s: float = 0.0) -> AsyncIterator[Scene]:
    write_catalog(folder / "catalog", JOBS)
    workers = [StandIn(render_s=render_s) for _ in range(machines)]
    for worker in workers:
        await worker.__aenter__()
    try:
        yield Scene(folder, Service([worker.url for worker in workers]))
    finally:
        for worker in workers:
            await worker.__aexit__(None, None, None)
