"""From a lease to a worker: log in, look at the machine, provision it, keep it alive.

Theory of operation. Everything that belongs to a stay runs in one task group around the caller's
block: mending the connection, the heartbeat, listening for the provider's word that the machine is
gone. Whichever fails first cancels the block, and the block's caller hears a WorkerLost at once,
whatever it was waiting for. Leaving the block, for whatever reason, ends every task and socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass

from nightkiln.comfy import ComfyWorker
from nightkiln.comfy_ready import Door
from nightkiln.core.errors import WorkerLost, most_telling
from nightkiln.core.model import Loss
from nightkiln.machine.gate import pass_gate
from nightkiln.machine.heartbeat import Heartbeat
from nightkiln.machine.link import Link
from nightkiln.machine.provisioning import Provisioning
from nightkiln.machine.stay import Stay
from nightkiln.machine.uploading import UploadingWorker
from nightkiln.wire import Wire

SSH = "SSH"


@asynccontextmanager
async def rendering(stay: Stay) -> AsyncIterator[ComfyWorker]:
    """Yield a worker once the machine really renders, within ``lease.offer.startup_s``.

    Raises:
        WorkerLost: it did not come up, failed the gate, or was lost while the block ran; the
            message is the same for the same cause on every machine.
    """
    try:
        async with AsyncExitStack() as leaving, asyncio.TaskGroup() as group:
            link = Link(
                stay.where,
                stay.keys,
                stay.pin,
                limits=stay.limits.link,
                tell=lambda state: stay.tell("connection", {"state": state}),
            )
            leaving.push_async_callback(link.aclose)
            tasks = [group.create_task(_until_lost(stay, link), name="provider's word")]
            try:
                worker = await _Arrival(stay, link, group, tasks, leaving).worker()
                async with aclosing(worker):
                    yield worker
            finally:
                for task in tasks:
                    task.cancel()
    except BaseExceptionGroup as errors:
        one = errors.exceptions[0]  # the block's own error, which may be a group, leaves as it is
        error = one if len(errors.exceptions) == 1 else most_telling(errors)
        raise error from error.__cause__


async def _until_lost(stay: Stay, link: Link) -> None:
    error = await asyncio.shield(stay.lost)
    link.give_up(error)
    raise error


@dataclass(slots=True)
class _Arrival:
    """The way from a lease to its worker."""

    stay: Stay
    link: Link
    group: asyncio.TaskGroup
    tasks: list[asyncio.Task[None]]
    leaving: AsyncExitStack
    stage: str = SSH

    async def worker(self) -> ComfyWorker:
        """Come up in time, or not at all."""
        try:
            async with asyncio.timeout(self.stay.lease.offer.startup_s):
                return await self._worker()
        except TimeoutError as error:
            heard = f" ({self.link.heard})" if self.stage == SSH and self.link.heard else ""
            said = f"not ready within its start-up time: waiting for {self.stage}{heard}"
            raise WorkerLost(said, loss=Loss.SLOW) from error

    async def _worker(self) -> ComfyWorker:
        stay, link = self.stay, self.link
        # Whoever was here before has been through the gate, and may have left models in memory.
        is_known = await asyncio.to_thread(stay.pin.exists)
        await link.open()
        self._in_background(link.keep(), "connection")
        beat = Heartbeat(link, expires_s=stay.expires_s, clock=stay.clock, quiet_s=stay.quiet_s)
        self._in_background(beat.keep_beating(), "heartbeat")
        self.stage = "its checks"
        found = await pass_gate(
            link, stay.lease, stay.need, stay.limits, is_known=is_known, tell=stay.tell
        )
        if not stay.goods.is_empty:
            self.stage = "models and custom nodes"
            await Provisioning(link, stay.goods, stay.limits, stay.tell).carry_out()
        self.stage = "ComfyUI"
        wire = Wire(link.url, ready=link.ready)
        self.leaving.push_async_callback(wire.aclose)
        await Door(wire).opened()
        stay.tell("ready", {"gpu": found.gpu})
        return UploadingWorker(
            wire,
            link,
            gpu=found.gpu if found.gpu is not None else "unknown",
            clock=stay.clock,
            loading_s=stay.loading_s(),
        )

    def _in_background(self, work: Coroutine[None, None, None], name: str) -> None:
        self.tasks.append(self.group.create_task(work, name=f"{name} of {self.stay.lease.id}"))
