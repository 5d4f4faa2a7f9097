"""A slot of the fake Modal that a test works on: rented, perhaps connected to, given back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightkiln.core.model import BoundJob, Lease, Ticket
from nightkiln.ports.worker import Rendered
from nightkiln.providers.modal import ModalProvider, ModalTerms
from nightkiln.providers.modal.worker import ModalWorker
from nightkiln.testing.modal import CallSeen, FakeModal
from tests.adapters.modal_world import (
    JOB,
    TERMS,
    Behind,
    a_provider,
    all_ended,
    attempt,
    rented,
    until,
)

BEHIND = Behind()  # of the containers of the fake that most tests share


@dataclass(frozen=True, slots=True)
class Bench:
    """A lease that is connected to."""

    provider: ModalProvider
    lease: Lease
    worker: ModalWorker

    async def submit(self, number: int = 0, job: BoundJob = JOB) -> Ticket:
        return await self.worker.submit(job, attempt(number))

    async def render(self, number: int = 0, job: BoundJob = JOB) -> Rendered:
        """A job from hand-over to its end."""
        ticket = await self.submit(number, job)
        rendered = await self.worker.result(ticket)
        await self.worker.forget(ticket)
        return rendered


@asynccontextmanager
async def a_slot(
    modal: FakeModal, state: Path, terms: ModalTerms = TERMS, *, number: int = 0, **options: Any
) -> AsyncIterator[tuple[ModalProvider, Lease]]:
    """A lease of a provider of its own; given back whatever happens, when nothing goes wrong."""
    async with a_provider(modal, state, terms, **options) as provider:
        lease = await rented(provider, number)
        try:
            yield provider, lease
        finally:
            modal.lift_faults()
            await provider.release([lease.id])


@asynccontextmanager
async def a_bench(
    modal: FakeModal, state: Path, terms: ModalTerms = TERMS, **options: Any
) -> AsyncIterator[Bench]:
    """The same, connected to."""
    async with (
        a_slot(modal, state, terms, **options) as (provider, lease),
        provider.connect(lease) as worker,
    ):
        yield Bench(provider, lease, worker)


async def left_behind(modal: FakeModal, state: Path) -> tuple[Lease, Ticket]:
    """What a process that is gone has left: a job of a lease that nobody gave back."""
    async with a_provider(modal, state) as dead:
        lease = await rented(dead)
        async with dead.connect(lease) as worker:
            return lease, await worker.submit(JOB, attempt(0))


async def with_new_containers(modal: FakeModal, **options: Any) -> None:
    """From now on there are only containers with such a stand-in."""
    await until(lambda: all_ended(modal))
    BEHIND.from_now_on(**options)


def seen(modal: FakeModal, ticket: str) -> CallSeen:
    """A call as the fake knows it."""
    return next(one for one in modal.calls if one.call_id == ticket)


def written(state: Path) -> list[str]:
    """Calls that are written down as open."""
    return sorted(path.stem for path in (state / "modal" / "calls").glob("*.json"))
