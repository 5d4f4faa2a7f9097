"""A lease of Modal as a Worker: each job is one call, its ticket the id that Modal gave it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nightkiln.comfy_http import planned_content
from nightkiln.core.errors import RenderFailed, StoreUnusable, WorkerLost
from nightkiln.core.model import AttemptId, BoundJob, Ticket, Timings
from nightkiln.disk import trouble
from nightkiln.ports.worker import OutputHandle, Place, Rendered
from nightkiln.providers.modal.calls import Call
from nightkiln.providers.modal.contract import Reply, done
from nightkiln.providers.modal.desk import Desk, Slot
from nightkiln.providers.modal.errors import ModalFailed, as_attempt


@dataclass(frozen=True, slots=True)
class Kept:
    """One output, already here: it came with the result."""

    node: str
    content: bytes = field(repr=False)

    async def save(self, path: Path) -> None:
        """Write it out.

        Raises:
            StoreUnusable: our own disk does not take it.
        """
        try:
            await asyncio.to_thread(path.write_bytes, self.content)
        except OSError as error:
            raise StoreUnusable(trouble(error, path)) from error


class ModalWorker:
    """Containers behind one slot; which one a call gets is Modal's choice."""

    loading_s = 0.0

    def __init__(self, desk: Desk, slot: Slot, *, gpu: str) -> None:
        self._desk, self._slot, self.gpu = desk, slot, gpu
        self._tickets: dict[AttemptId, Ticket] = {}

    async def submit(self, job: BoundJob, attempt_id: AttemptId) -> Ticket:
        if attempt_id in self._tickets:
            return self._tickets[attempt_id]
        contents = await asyncio.to_thread(_contents, job)

        def request(expires_at_s: float) -> dict[str, object]:
            return self._desk.asking.render(job, contents, expires_at_s=expires_at_s)

        try:
            call = await self._desk.hand_over(self._slot, attempt_id, request)
        except ModalFailed as error:
            raise as_attempt(error) from error
        ticket = self._tickets[attempt_id] = Ticket(call.call_id)
        return ticket

    async def result(self, ticket: Ticket) -> Rendered:
        call = self._call(ticket)
        reply = await self._desk.reply(self._slot, call)
        try:
            return rendered(reply, call, version=self._desk.deployed.version)
        except (RenderFailed, WorkerLost):
            await self._desk.close(self._slot, call)
            raise

    async def cancel(self, ticket: Ticket) -> None:
        try:
            await self._desk.cancel(self._slot, self._call(ticket), ends_container=False)
        except ModalFailed as error:
            raise as_attempt(error) from error

    async def forget(self, ticket: Ticket) -> None:
        await self._desk.close(self._slot, self._call(ticket))

    def _call(self, ticket: Ticket) -> Call:
        """A call of ours, or one that an earlier process handed over."""
        known = self._slot.open.get(ticket)
        if known is not None:
            return known
        now_s, slot = self._desk.clock(), self._slot
        return Call(ticket, slot.lease.id, "", "", slot.usd_per_s, now_s, slot.expires_s)


def rendered(reply: Reply, call: Call, *, version: int | None) -> Rendered:
    """What a reply holds, with the container, the version of the app and the GPU that made it.

    Raises:
        RenderFailed: the job failed, or was refused.
        WorkerLost: nobody waited for it any more.
    """
    finished, files = done(reply)
    handles: Sequence[OutputHandle] = [Kept(name.node, files[name]) for name in finished.files]
    taken_s = max(0.0, reply.t_end - reply.t_start)
    gpu_s = min(finished.gpu_s, taken_s) if finished.gpu_s is not None else taken_s
    timings = Timings(call.submitted_s, call.submitted_s + taken_s, gpu_s)
    shown = f"v{version}" if version is not None else "v?"
    gpu = reply.gpu if reply.gpu is not None else "unknown"
    return Rendered(handles, timings, Place(f"{reply.container} {shown} {reply.tag}".strip(), gpu))


def _contents(job: BoundJob) -> list[bytes]:
    """The input files of a job, each as it was when the night was planned."""
    return [planned_content(bound.file) for bound in job.files]
