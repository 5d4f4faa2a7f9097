"""One attempt: submit, wait, fetch, keep; and every way in which it can end early."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from nightkiln.core.errors import RenderFailed, WorkerLost
from nightkiln.core.events import Failed, Lost, Rendered
from nightkiln.core.model import AttemptId, Fault, JobId, Settled, Ticket
from nightkiln.dispatch.landing import Fetched
from nightkiln.dispatch.lease_life import CANCEL_S_MAX, LeaseLife
from nightkiln.dispatch.shell import InHand, Shell
from nightkiln.ports.provider import Recalls
from nightkiln.ports.worker import Place
from nightkiln.store.settled_json import job_to_json


@dataclass(slots=True)
class Attempting:
    """One job on one lease, once."""

    shell: Shell
    life: LeaseLife
    hand: InHand
    id: AttemptId
    started_s: float
    ticket: Ticket | None = None
    is_landed: bool = False  # its job has a result in the store, and a line in the journal
    _submitting: asyncio.Task[Ticket] | None = None

    async def run(self) -> None:
        """Try, and tell the scheduler how it ended."""
        try:
            if not self.life.is_lost:  # else handed out meanwhile: the loss returns it, too
                await self._render()
        except RenderFailed as error:
            await self._failed(error)
        except WorkerLost as error:
            await self._lost(error)
        except asyncio.CancelledError:
            if not self.is_landed:
                await self._cancelled()
            raise
        finally:
            self.life.renders.pop(self.id, None)

    async def _render(self) -> None:
        worker = self.life.worker
        assert worker is not None
        bound = self.shell.work.bind(self.hand.job)
        submitting = self.shell.work.landing.submit(worker, bound, self.id, self.life.trust)
        self._submitting = asyncio.create_task(submitting, name=f"submit {self.id}")
        # Whoever cancels us must not cut this off: the worker may have taken the job already.
        self.ticket = await asyncio.shield(self._submitting)
        await self._journal_ticket(self.ticket)
        rendered = await worker.result(self.ticket)
        downloading_s = self.shell.now_s()
        fetched = await self.shell.work.landing.fetch(bound, rendered, self.id, self.life.trust)
        if self.hand.is_landing:  # the same job on another machine was faster
            self.shell.work.landing.discard(fetched)
            self._record("hedge", gpu_s=rendered.timings.gpu_s, place=rendered.place)
            self._too_late()
        else:
            # From here on there is no way back: a result that is being kept is never cut off.
            self.hand.is_landing = self.life.renders[self.id].is_landing = True
            self._record("done", gpu_s=rendered.timings.gpu_s, place=rendered.place)
            download_s = self.shell.now_s() - downloading_s
            landing = self._land(fetched, download_s, rendered.timings.gpu_s)
            await _whole(asyncio.create_task(landing, name=f"land {self.id}"))
        await worker.forget(self.ticket)

    def _too_late(self) -> None:
        self.shell.tally.worker(self.life.id, running=-1)
        lost_race = Failed(self.id, Fault.MARKET, "hedge", "another machine was faster")
        self.shell.events.put_nowait(lost_race)

    async def _journal_ticket(self, ticket: Ticket) -> None:
        fields: dict[str, Any] = {
            "job_id": self.hand.job.id,
            "attempt_id": self.id,
            "lease_id": self.life.id,
            "provider": self.life.offer.provider,
            "ref": self.life.offer.ref,
            "ticket": ticket,
        }
        if isinstance(self.shell.work.providers[self.life.offer.provider], Recalls):
            # Whoever comes after us can fetch the result, and has to know whose it is.
            fields["job"] = job_to_json(self.hand.job)
            fields["started_s"] = self.started_s
        await self.shell.work.journal.append("ticket", fields)

    async def _land(self, fetched: Sequence[Fetched], download_s: float, gpu_s: float) -> None:
        outputs = await self.shell.work.landing.keep(self.hand.job.id, fetched)
        settled = Settled(
            job=self.hand.job,
            status="done",
            outputs=outputs,
            attempts=tuple(self.hand.attempts),
            queued_s=self.hand.queued_s,
            finished_s=self.shell.now_s(),
            download_s=download_s,
        )
        await self.shell.settle("rendered", settled)
        self.is_landed = True
        self.life.jobs_done += 1
        self.shell.tally.job_done(self.life.id, len(outputs), self.shell.now_s())
        self.shell.events.put_nowait(Rendered(self.id, gpu_s))

    async def _failed(self, error: RenderFailed) -> None:
        self.life.attempts_failed += 1
        self.life.trust.shaken()
        self._record("failed", fault=error.fault, error=str(error))
        self.shell.tally.worker(self.life.id, failed=1, running=-1)
        self.shell.events.put_nowait(Failed(self.id, error.fault, error.kind, str(error)))
        await self.shell.tell(
            "attempt_failed",
            {
                "job_id": self.hand.job.id,
                "lease_id": self.life.id,
                "host": self.life.host,
                "fault": error.fault,
                "kind": error.kind,
                "error": str(error),
            },
        )
        if self.ticket is not None and self.life.worker is not None:
            await self.life.worker.forget(self.ticket)

    async def _lost(self, error: WorkerLost) -> None:
        self._record("lost", error=str(error))
        self.shell.tally.worker(self.life.id, running=-1)
        if self.life.is_lost:
            return  # another attempt has told already
        self.life.is_lost, self.life.reason = True, str(error)
        self.life.renders[self.id].is_telling = True
        # Results on their way into the store must be told before the loss: the scheduler hands
        # every other job of this lease to somebody else at once.
        await self.life.wind_down()
        self.shell.events.put_nowait(Lost(self.life.id, str(error), error.loss))
        await self.life.tell_lost(self.shell)

    async def _cancelled(self) -> None:
        is_stop = self.life.renders[self.id].is_cancelled
        self._record("cancelled" if is_stop else "lost")
        self.shell.tally.worker(self.life.id, running=-1)
        await self._hand_back()
        if is_stop:
            stopped = Failed(self.id, Fault.MARKET, "cancelled", "the run was stopped")
            self.shell.events.put_nowait(stopped)

    async def _hand_back(self) -> None:
        """Take the job from the worker, which may still be about to say that it has it."""
        submitting, worker = self._submitting, self.life.worker
        if submitting is None or worker is None:
            return
        if self.life.is_lost:
            submitting.cancel()
            return
        try:
            async with asyncio.timeout(CANCEL_S_MAX):
                await worker.cancel(await submitting)
        except RenderFailed:
            pass  # it never began there
        except (WorkerLost, TimeoutError) as error:
            await self._found_lost(str(error) or f"no answer in {CANCEL_S_MAX:.0f} s")

    async def _found_lost(self, error: str) -> None:
        """A machine that cannot be told to stop a job is not there any more."""
        life = self.life
        if not life.is_lost:
            life.is_lost, life.reason = True, error
            if not life.is_release_asked:
                life.renders[self.id].is_telling = True
                await life.wind_down()  # results on their way are told before the loss
                self.shell.events.put_nowait(Lost(life.id, error))
            await life.tell_lost(self.shell)

    def _record(
        self,
        status: str,
        *,
        gpu_s: float = 0.0,
        fault: Fault | None = None,
        error: str | None = None,
        place: Place | None = None,
    ) -> None:
        attempt = self.life.attempt(
            self.id,
            started_s=self.started_s,
            finished_s=self.shell.now_s(),
            status=status,
            gpu_s=gpu_s,
            fault=fault,
            error=error,
        )
        if place is not None:
            attempt = replace(attempt, host=place.host, gpu=place.gpu)
        self.hand.attempts.append(attempt)


async def _whole(landing: asyncio.Task[None]) -> None:
    """Wait for it, also when the run ends with an error meanwhile.

    What is in the store without its line in the journal would be rendered once more.
    """
    try:
        await asyncio.shield(landing)
    except asyncio.CancelledError:
        await asyncio.wait([landing])
        landing.exception()  # seen: the run ends with an error already
        raise


async def give_up(shell: Shell, job_id: JobId, fault: Fault, error: str) -> None:
    """End a job as one explained failure."""
    hand = shell.in_hand.get(job_id)
    if hand is None:
        return  # its result came after all
    settled = Settled(
        job=hand.job,
        status="failed",
        attempts=tuple(hand.attempts),
        fault=fault,
        error=error,
        queued_s=hand.queued_s,
        finished_s=shell.now_s(),
    )
    await shell.settle("settled", settled)
    shell.tally.job_failed()
    await shell.tell("job_failed", {"job_id": job_id, "fault": fault, "error": error})
