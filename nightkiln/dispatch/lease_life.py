"""One lease, from renting to release; whatever happens, it is released."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from nightkiln.core.budget import lease_cost, metered_cost
from nightkiln.core.errors import OfferGone, ProviderError, StoreUnusable, WorkerLost
from nightkiln.core.events import Lost, Released, Rented
from nightkiln.core.model import (
    Attempt,
    AttemptId,
    Cost,
    Fault,
    Lease,
    LeaseEnd,
    LeaseId,
    Loss,
    Offer,
    Usd,
)
from nightkiln.dispatch.booking import Booking
from nightkiln.dispatch.giving_back import see_through
from nightkiln.dispatch.landing import Trust
from nightkiln.dispatch.render import Render
from nightkiln.dispatch.shell import Shell
from nightkiln.ports.provider import Metered, Provider
from nightkiln.ports.worker import Worker

CANCEL_S_MAX = 3.0  # to tell a worker that its job is not wanted any more


@dataclass(slots=True)
class LeaseLife:
    """What the shell holds for one lease."""

    id: LeaseId
    offer: Offer
    rented_s: float  # epoch seconds
    expires_s: float  # epoch seconds
    lease: Lease | None = None
    worker: Worker | None = None
    ready_s: float | None = None
    loading_s: float = 0.0  # of its start, before the GPU was fully billed
    reason: str = ""
    is_lost: bool = False
    may_bill: bool = False  # asked for, and nobody says that it never was ours
    is_adopted: bool = False  # rented by an earlier run, and gone on with
    is_left_over: bool = False  # of an earlier run, or given up: only to be given back
    is_over: bool = False
    is_written: bool = False  # in the book of leases
    ended_s: float | None = None  # confirmed
    renders: dict[AttemptId, Render] = field(default_factory=dict)
    trust: Trust = field(default_factory=Trust)
    jobs_done: int = 0
    attempts_failed: int = 0
    busy_s: float = 0.0  # GPU seconds of all attempts
    _release_asked: asyncio.Event = field(default_factory=asyncio.Event)
    _connecting: asyncio.Task[None] | None = None  # set while it is still coming up

    async def wind_down(self) -> None:
        """End every render here; those whose result is already being kept are waited for.

        A result that is on its way into the store must not be rendered a second time, so it
        is never cut off.
        """
        own = asyncio.current_task()
        tasks = [render.task for render in self.renders.values() if render.task is not own]
        for render in list(self.renders.values()):
            # One that is handed back already hears within seconds whether the machine still lives.
            if render.is_cancellable and not render.is_cancelled and render.task is not own:
                render.task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    @property
    def is_release_asked(self) -> bool:
        """Whether it is on its way out."""
        return self._release_asked.is_set()

    async def live(self, shell: Shell) -> None:
        """Rent, connect, wait for the order to release; then release, whatever happened."""
        provider = shell.work.providers[self.offer.provider]
        self._connecting = asyncio.current_task()
        try:
            if not self._release_asked.is_set():
                await self._serve(shell, provider)
        except (OfferGone, WorkerLost, ProviderError) as error:
            self._connecting = None
            shell.events.put_nowait(Lost(self.id, str(error), _loss(error)))
            if not self.is_lost:  # else one of its attempts has seen it, and tells
                self.is_lost, self.reason = True, str(error)
                await self.tell_lost(shell)
        except asyncio.CancelledError:
            own = asyncio.current_task()
            if not self._release_asked.is_set() or own is None or own.uncancel():
                raise
        finally:
            await self._released(shell, provider)

    def ask_release(self, reason: str) -> None:
        """End this lease; while it is still coming up, stop waiting for it."""
        self.reason = self.reason if self.is_lost else reason
        self._release_asked.set()
        if self._connecting is not None:
            self._connecting.cancel()

    async def extend(self, shell: Shell, expires_s: float) -> None:
        """Let it live longer: the same rent again, with a later end."""
        self.expires_s = max(self.expires_s, expires_s)
        if self.lease is None or self._release_asked.is_set():
            return
        provider = shell.work.providers[self.offer.provider]
        book = shell.book_of(provider)
        if book is not None:
            await shell.write_down(book.book.extended, self.id, expires_s=self.expires_s)
        with contextlib.suppress(OfferGone, ProviderError):  # then it ends as first agreed
            await provider.rent(self.offer, self.id, shell.work.need, expires_at_s=self.expires_s)

    async def _serve(self, shell: Shell, provider: Provider) -> None:
        async with self._connected(shell, provider) as worker:
            self._connecting = None
            self.worker, self.ready_s = worker, shell.now_s()
            self.loading_s = max(0.0, min(worker.loading_s, self.ready_s - self.rented_s))
            assert self.lease is not None
            shell.tally.worker(self.id, state="ready", gpu=self.lease.offer.gpu)
            shell.events.put_nowait(Rented(self.lease, self.loading_s))
            await shell.tell("lease_ready", {"lease_id": self.id, "host": self.host})
            await self._release_asked.wait()
            await self.wind_down()

    @property
    def host(self) -> str:
        """The machine's name for people; before it is ours, what its provider calls it."""
        if self.lease is not None:
            return self.lease.host
        return self.offer.machine or self.offer.ref

    @asynccontextmanager
    async def _connected(self, shell: Shell, provider: Provider) -> AsyncIterator[Worker]:
        book = shell.book_of(provider)
        if book is not None:
            await self._write_down_first(book)
        self.may_bill = True  # from now on: an answer that is lost may have been a yes
        try:
            lease = self.lease = await provider.rent(
                self.offer, self.id, shell.work.need, expires_at_s=self.expires_s
            )
        except OfferGone:
            self.may_bill = self.is_adopted  # then it was ours until somebody took it away
            raise
        if book is not None:
            await shell.write_down(book.book.rented, self.id, host=lease.host)
        shell.tally.add_worker(lease)
        async with shell.watched(lease), provider.connect(lease) as worker:
            gpu = worker.gpu if self.offer.gpu == "unknown" else self.offer.gpu
            self.lease = replace(lease, offer=replace(lease.offer, gpu=gpu))
            yield worker

    async def _write_down_first(self, book: Booking) -> None:
        times = {"asked_s": self.rented_s, "expires_s": self.expires_s}
        write = book.take_over if self.is_adopted else book.intend
        _, was_cancelled = await see_through(write(self.id, self.offer, **times))
        self.is_written = True
        if was_cancelled:  # the book has it now, so it has to be crossed off again
            raise asyncio.CancelledError

    async def _released(self, shell: Shell, provider: Provider) -> None:
        """Stop paying, also when this very task is being cancelled, and only then say so."""
        self._connecting = None
        is_confirmed, was_cancelled = await see_through(self._release(shell, provider))
        self.is_over = True
        if was_cancelled:
            raise asyncio.CancelledError
        # Also when nobody confirmed it: a run that waits for that would never end.
        shell.events.put_nowait(Released(self.id, self.count(shell), is_confirmed))

    def count(self, shell: Shell) -> Usd:
        """What it has come to until now, which people are shown, too."""
        usd = self._cost(shell).usd
        shell.tally.spent(self.id, usd, self.busy_s)
        return usd

    def _cost(self, shell: Shell) -> Cost:
        """What this lease has come to by our own count: its bill may be lower, never dearer."""
        if not self.may_bill:
            return Cost()  # it never was ours
        provider, load = shell.work.providers[self.offer.provider], shell.work.load
        used = provider.used(self.id) if isinstance(provider, Metered) else None
        if used is not None:
            gpu_s, storage_s = used.gpu_s, used.storage_s
            return metered_cost(
                self.offer, load, gpu_s=gpu_s, storage_s=storage_s, jobs=self.jobs_done
            )
        ended_s = self.ended_s if self.ended_s is not None else shell.now_s()
        life_s = max(0.0, ended_s - self.rented_s)
        return lease_cost(
            self.offer, load, life_s=life_s, loading_s=self.loading_s, jobs=self.jobs_done
        )

    async def _release(self, shell: Shell, provider: Provider) -> bool:
        """Whether it is confirmed that it ended."""
        book = shell.book_of(provider) if self.is_written else None
        if book is not None and await self._is_taken_from_us(shell, book):
            await self._let_go(shell)
            return True
        releases = shell.releases(provider)
        error = await releases.give_back(self.id, for_s=shell.work.release_s_max)
        if error is not None:
            await self._not_released(shell, provider, error)
            return False
        self.ended_s = shell.now_s()
        if book is not None:
            await shell.write_down(book.book.ended, self.id, ended_s=self.ended_s)
        await shell.work.lease_log(self._end(shell, self.ended_s, self.reason))
        if book is not None:
            await shell.write_down(book.book.forget, self.id)
        shell.tally.released(self.id, was_lost=self.is_lost)
        if not self.is_lost:  # else people have been told already why it went
            was_up = self.ready_s is not None or self.is_left_over
            name = "lease_released" if was_up else "lease_called_off"
            await shell.tell(name, {**self._facts(), "reason": self.reason})
        return True

    async def _is_taken_from_us(self, shell: Shell, book: Booking) -> bool:
        """Whether a later run goes on with it: we were silent for so long that it took over."""
        try:
            return await book.is_taken_from_us(self.id)
        except StoreUnusable as error:
            await shell.warn(f"the book of leases cannot be read: {error}")
            return False

    async def _let_go(self, shell: Shell) -> None:
        """Leave it to the run that goes on with it, and books all that it costs."""
        self.may_bill = False
        shell.tally.released(self.id, was_lost=self.is_lost)
        if not self.is_lost:
            reason = "another run of this batch goes on with it"
            await shell.tell("lease_released", {**self._facts(), "reason": reason})

    async def _not_released(self, shell: Shell, provider: Provider, error: str) -> None:
        shell.tally.gave_up(self.id)
        may_cost = f"it may still cost money: end it at {provider.name} by hand"
        what_to_do = may_cost if provider.bills else "it costs nothing; see whether it still runs"
        fields = {"provider": provider.name, "error": error, "what_to_do": what_to_do}
        await shell.tell("lease_not_released", {**self._facts(), **fields})
        said = f"not confirmed released ({error}); {self.reason}"
        await shell.work.lease_log(self._end(shell, None, said))

    def _end(self, shell: Shell, released_s: float | None, reason: str) -> LeaseEnd:
        return LeaseEnd(
            lease=self.lease if self.lease is not None else Lease(self.id, self.offer, self.host),
            rented_s=self.rented_s,
            ready_s=self.ready_s,
            released_s=released_s,
            reason=reason,
            jobs_done=self.jobs_done,
            attempts_failed=self.attempts_failed,
            busy_s=self.busy_s,
            cost=self._cost(shell),
            is_late=self.is_left_over or self.is_adopted,
        )

    async def tell_lost(self, shell: Shell) -> None:
        """Tell people that the machine is gone, and why."""
        await shell.tell("lease_lost", {**self._facts(), "error": self.reason})

    def _facts(self) -> dict[str, str | int]:
        return {
            "lease_id": self.id,
            "host": self.host,
            "jobs_done": self.jobs_done,
            "attempts_failed": self.attempts_failed,
        }

    def attempt(
        self,
        attempt_id: AttemptId,
        *,
        started_s: float,
        finished_s: float,
        status: str,
        gpu_s: float = 0.0,
        fault: Fault | None = None,
        error: str | None = None,
    ) -> Attempt:
        """The record of one attempt here; its GPU time counts as the lease's busy time."""
        self.busy_s += gpu_s
        return Attempt(
            id=attempt_id,
            lease_id=self.id,
            provider=self.offer.provider,
            host=self.host,
            gpu=self.lease.offer.gpu if self.lease is not None else self.offer.gpu,
            started_s=started_s,
            finished_s=finished_s,
            gpu_s=gpu_s,
            status=status,
            fault=fault,
            error=error,
        )


def _loss(error: OfferGone | WorkerLost | ProviderError) -> Loss:
    """Why a lease did not come up."""
    match error:
        case OfferGone():
            return Loss.GONE
        case ProviderError():
            return Loss.REFUSED
        case WorkerLost():
            return Loss.STARTUP if error.loss is Loss.LOST else error.loss
