"""A lease of Modal as a Worker: each job is one call, its ticket the id that Modal gave it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nightkiln.comfy_http import planned_content
from nightkiln.core.errors import RenderFailed, StoreUnusable, WorkerLost
from nightkiln.core.model import AttemptId, BoundJob, Fault, Ticket, Timings
from nightkiln.disk import trouble
from nightkiln.ports.uploads import Form, Forms, Posted
from nightkiln.ports.worker import OutputHandle, Place, Rendered
from nightkiln.providers.modal.calls import Call
from nightkiln.providers.modal.contract import FORMS_SINCE, Reply, Sent, done
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


@dataclass(frozen=True, slots=True)
class Delivered:
    """One output of a container that was given forms: posted by it, or here all the same."""

    node: str
    posted: Posted | str
    content: bytes | None = field(repr=False)  # None: it has handed over nothing else

    async def save(self, path: Path) -> None:
        """Write out what came with the result.

        Raises:
            RenderFailed: nothing did: it was posted, and this run does not have it from there.
            StoreUnusable: our own disk does not take it.
        """
        if self.content is None:
            said = (
                "modal: what a container has posted to the store is not there, or not for this run"
            )
            raise RenderFailed(said, fault=Fault.MACHINE, kind="not_posted")
        await Kept(self.node, self.content).save(path)


class ModalWorker:
    """Containers behind one slot; which one a call gets is Modal's choice."""

    loading_s = 0.0

    def __init__(self, desk: Desk, slot: Slot, *, gpu: str) -> None:
        self._desk, self._slot, self.gpu = desk, slot, gpu
        self._tickets: dict[AttemptId, Ticket] = {}

    @property
    def no_forms(self) -> str:
        if self._desk.asking.contract >= FORMS_SINCE:
            return ""
        return "the app on Modal was deployed by an older version; run nightkiln modal deploy"

    async def submit(self, job: BoundJob, attempt_id: AttemptId) -> Ticket:
        return await self.submit_with(job, attempt_id, _none)

    async def submit_with(self, job: BoundJob, attempt_id: AttemptId, forms: Forms) -> Ticket:
        if attempt_id in self._tickets:
            return self._tickets[attempt_id]
        contents = await asyncio.to_thread(_contents, job)
        made = await forms(self._desk.life_s(self._slot))

        def request(expires_at_s: float) -> dict[str, object]:
            return self._desk.asking.render(job, contents, expires_at_s=expires_at_s, forms=made)

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
    handles = [_handle(name.node, files[name]) for name in finished.files]
    taken_s = max(0.0, reply.t_end - reply.t_start)
    gpu_s = min(finished.gpu_s, taken_s) if finished.gpu_s is not None else taken_s
    timings = Timings(call.submitted_s, call.submitted_s + taken_s, gpu_s)
    shown = f"v{version}" if version is not None else "v?"
    gpu = reply.gpu if reply.gpu is not None else "unknown"
    return Rendered(handles, timings, Place(f"{reply.container} {shown} {reply.tag}".strip(), gpu))


def _handle(node: str, sent: Sent) -> OutputHandle:
    if sent.posted is not None:
        return Delivered(node, sent.posted, sent.content)
    assert sent.content is not None, "one or the other has come"
    return Kept(node, sent.content)


async def _none(expires_s: float) -> Sequence[Form]:
    """No forms."""
    del expires_s
    return ()


def _contents(job: BoundJob) -> list[bytes]:
    """The input files of a job, each as it was when the night was planned."""
    return [planned_content(bound.file) for bound in job.files]
