"""The control plane as a whole: everything that answers, put together."""

from __future__ import annotations

from pathlib import Path
from socket import socket
from types import MappingProxyType

from grpclib.server import Server

from nightkiln.testing.modal.apps import Apps
from nightkiln.testing.modal.billing import Billing
from nightkiln.testing.modal.blobs import Blobs
from nightkiln.testing.modal.calling import Calling
from nightkiln.testing.modal.clock import Clock
from nightkiln.testing.modal.directory import Directory
from nightkiln.testing.modal.faults import FaultPlan
from nightkiln.testing.modal.front import Front
from nightkiln.testing.modal.ground import Ground
from nightkiln.testing.modal.ids import Ids
from nightkiln.testing.modal.money import Money
from nightkiln.testing.modal.nursery import Nursery
from nightkiln.testing.modal.objects import Idle, Objects
from nightkiln.testing.modal.pools import Pools
from nightkiln.testing.modal.registry import Registry
from nightkiln.testing.modal.rules import Comfy, Rules
from nightkiln.testing.modal.sources import Sources
from nightkiln.testing.modal.wire import Wire


class Service:
    """Lives in one event loop; whoever is elsewhere asks through ``FakeModal``."""

    def __init__(
        self,
        folder: Path,
        *,
        seed: int,
        clock: Clock,
        rules: Rules,
        faults: FaultPlan,
        token: tuple[str, str],
        comfy: Comfy | None,
    ) -> None:
        self.clock, self.faults, self.mistakes = clock, faults, list[Exception]()
        ids = Ids()
        self.blobs = Blobs(folder / "blobs", ids, faults)
        self.registry = Registry()
        self.objects = Objects(ids, rules.secrets)
        self.sources = Sources(ids, self.blobs)
        self.apps = Apps(ids, clock, self.registry)
        directory = Directory(ids, self.apps, self.registry, self.objects)
        self.nursery = Nursery()
        ground = Ground(
            folder=folder,
            seed=seed,
            rules=rules,
            clock=clock,
            ids=ids,
            faults=faults,
            blobs=self.blobs,
            objects=self.objects,
            sources=self.sources,
            apps=self.apps,
            directory=directory,
            nursery=self.nursery,
            comfy=comfy,
            mistakes=self.mistakes,
        )
        self.pools = Pools(ground, self.registry)
        self._prices = MappingProxyType(dict(rules.usd_per_s))
        self._credit_usd = rules.credit_usd
        self.calling = Calling(
            ids,
            clock,
            self.registry,
            self.pools,
            rules=rules,
            has_credit=self._has_credit,
        )
        answering = (
            Idle(),
            self.apps,
            self.blobs,
            self.calling,
            directory,
            Money(rules, self.apps, self.billing),
            self.objects,
            self.pools,
            self.sources,
        )
        answers = {name: answer for one in answering for name, answer in one.answers().items()}
        self.front = Front(
            answers, token, faults, forget=self.calling.forget, mistakes=self.mistakes
        )
        self._server = Server([Wire(self.front.answer)])

    async def start(self, listening: socket) -> None:
        """Serve on a socket that is listening already."""
        await self.blobs.start()
        await self._server.start(sock=listening)

    async def stop(self) -> None:
        """End everything, containers first."""
        await self.pools.stop()
        await self.nursery.stop()
        self._server.close()
        await self._server.wait_closed()
        await self.blobs.stop()

    def _has_credit(self) -> bool:
        return self._credit_usd is None or self.billing().usd < self._credit_usd

    def billing(self) -> Billing:
        """What was billed up to now."""
        now_s = self.clock.wall_s
        spells = [spell for one in self.pools.containers for spell in one.meter.spells(now_s)]
        return Billing(tuple(spells), self._prices)
