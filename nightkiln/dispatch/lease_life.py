"""One lease, from renting to release; whatever happens, it is released."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import stamina

from nightkiln.core.budget import rent_usd, traffic_usd
from nightkiln.core.errors import OfferGone, ProviderError, WorkerLost
from nightkiln.core.events import Lost, Released, Rented
from nightkiln.core.model import (
    Attempt,
    AttemptId,
    Fault,
    Lease,
    LeaseEnd,
    LeaseId,
    Loss,
    Offer,
    Usd,
)
from nightkiln.dispatch.landing import Trust
from nightkiln.dispatch.shell import Shell
from nightkiln.ports.provider import Provider
from nightkiln.ports.worker import Worker

RELEASE_TRY_S_MAX = 20.0  # for one answer of the provider
CANCEL_S_MAX = 3.0  # to tell a worker that its job is not wanted any more


@dataclass(slots=True)
class Render:
    """One attempt under way."""

    task: asyncio.Task[None]
    is_landing: bool = False  # verified, being kept: beyond cancelling
    is_telling: bool = False  # that the lease is lost: cut off, nobody would hear of its jobs
    is_cancelled: bool = False  # by the scheduler: the user stops

    def cancel(self) -> None:
        """Hand the job back, unless it is beyond that."""
        if self.is_cancellable:
            self.is_cancelled = True
            self.task.cancel()

    @property
    def is_cancellable(self) -> bool:
        """Whether ending it now leaves nothing half said or half kept."""
        return not self.is_landing and not self.is_telling


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
            self._connecting, self.is_lost, self.reason = None, True, str(error)
            shell.events.put_nowait(Lost(self.id, str(error), _loss(error)))
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
        self.may_bill = True  # from now on: an answer that is lost may have been a yes
        try:
            lease = self.lease = await provider.rent(
                self.offer, self.id, shell.work.need, expires_at_s=self.expires_s
            )
        except OfferGone:
            self.may_bill = False
            raise
        shell.tally.add_worker(lease)
        async with shell.watched(lease), provider.connect(lease) as worker:
            gpu = worker.gpu if self.offer.gpu == "unknown" else self.offer.gpu
            self.lease = replace(lease, offer=replace(lease.offer, gpu=gpu))
            yield worker

    async def _released(self, shell: Shell, provider: Provider) -> None:
        """Stop paying, also when this very task is being cancelled, and only then say so."""
        self._connecting = None
        releasing = asyncio.ensure_future(self._release(shell, provider))
        try:
            is_confirmed = await asyncio.shield(releasing)
        except asyncio.CancelledError:
            await releasing
            raise
        # Also when nobody confirmed it: a run that waits for that would never end.
        shell.events.put_nowait(Released(self.id, self._usd(shell), is_confirmed))

    def _usd(self, shell: Shell) -> Usd:
        """What this lease has come to by our own count: its bill may be lower, never dearer."""
        if not self.may_bill:
            return Usd(0)  # it never was ours
        life_s = max(0.0, shell.now_s() - self.rented_s)
        rent = rent_usd(self.offer, life_s, loading_s=self.loading_s)
        return rent + traffic_usd(self.offer, shell.work.load, self.jobs_done)

    async def _release(self, shell: Shell, provider: Provider) -> bool:
        """Whether it is confirmed that it ended."""
        error = await self._stop_paying(shell, provider)
        if error is None:
            await shell.work.lease_log(self._end(shell, shell.now_s(), self.reason))
            shell.tally.worker(self.id, state="lost" if self.is_lost else "released")
            if not self.is_lost:  # else people have been told already why it went
                name = "lease_released" if self.ready_s is not None else "lease_called_off"
                await shell.tell(name, {**self._facts(), "reason": self.reason})
            return True
        shell.tally.not_released.append(self.id)
        shell.tally.worker(self.id, state="not released")
        await self._tell_not_released(shell, provider, error)
        said = f"not confirmed released ({error}); {self.reason}"
        await shell.work.lease_log(self._end(shell, None, said))
        return False

    async def _stop_paying(self, shell: Shell, provider: Provider) -> str | None:
        """Release, again and again for a bounded time; None, or what went wrong the last time."""

        async def release() -> None:
            async with asyncio.timeout(RELEASE_TRY_S_MAX):
                await provider.release([self.id])

        caller = stamina.AsyncRetryingCaller(
            attempts=None,
            timeout=shell.work.release_s_max,
            wait_initial=0.1,
            wait_max=5.0,
            wait_jitter=0.0,  # a night that is played twice is the same night
        )
        try:
            await caller.on(Exception)(release)
        except Exception as error:  # noqa: BLE001 - whatever a plug-in raises, the machine is not given back
            return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return None

    async def _tell_not_released(self, shell: Shell, provider: Provider, error: str) -> None:
        may_cost = f"it may still cost money: end it at {provider.name} by hand"
        what_to_do = may_cost if provider.bills else "it costs nothing; see whether it still runs"
        fields = {"provider": provider.name, "error": error, "what_to_do": what_to_do}
        await shell.tell("lease_not_released", {**self._facts(), **fields})

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
            usd=self._usd(shell),
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
