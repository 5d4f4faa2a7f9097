"""ComfyUI servers that are already running and cost nothing: your own machine, a lab's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from nightkiln.comfy import STALL_S, ComfyWorker
from nightkiln.comfy_ready import Door
from nightkiln.core.errors import BadInput, OfferGone, Problem, WorkerLost
from nightkiln.core.model import Lease, LeaseId, Need, Offer
from nightkiln.wire import Wire

STARTUP_S = 60.0  # a ComfyUI with many custom nodes takes half a minute to open its port


class LocalProvider:
    """Rents out the given servers, each to one lease at a time."""

    name = "local"
    bills = False
    can_list = False

    def __init__(
        self, urls: Sequence[str], *, startup_s: float = STARTUP_S, stall_s: float = STALL_S
    ) -> None:
        self._urls = tuple(dict.fromkeys(_checked(url) for url in urls))
        self._startup_s, self._stall_s = startup_s, stall_s
        self._leases: dict[LeaseId, Lease] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leases.clear()

    async def offers(self, need: Need, *, limit: int) -> Sequence[Offer]:
        """Servers that nobody here uses; what they can do is for their owner to know."""
        del need
        used = {lease.offer.ref for lease in self._leases.values()}
        free = [url for url in self._urls if url not in used]
        return [Offer(self.name, url, startup_s=self._startup_s) for url in free[:limit]]

    async def rent(
        self, offer: Offer, lease_id: LeaseId, need: Need, *, expires_at_s: float
    ) -> Lease:
        del need, expires_at_s  # nothing is paid, so nothing has to end by itself
        if lease_id not in self._leases:
            if offer.ref not in self._urls:
                raise OfferGone(f"{offer.ref} is none of the workers here")
            if any(lease.offer.ref == offer.ref for lease in self._leases.values()):
                raise OfferGone(f"{offer.ref} is in use")
            self._leases[lease_id] = Lease(lease_id, offer, urlsplit(offer.ref).netloc)
        return self._leases[lease_id]

    @asynccontextmanager
    async def connect(self, lease: Lease) -> AsyncIterator[ComfyWorker]:
        if lease.id not in self._leases:
            raise WorkerLost(f"there is no lease {lease.id} to connect to")
        wire = Wire(lease.offer.ref)
        async with aclosing(wire):
            gpu = await _until_up(wire, lease.offer)
            async with aclosing(ComfyWorker(wire, gpu=gpu, stall_s=self._stall_s)) as worker:
                yield worker

    async def release(self, lease_ids: Sequence[LeaseId]) -> None:
        for lease_id in lease_ids:
            self._leases.pop(lease_id, None)

    async def owned(self) -> Sequence[LeaseId]:
        return list(self._leases)


async def _until_up(wire: Wire, offer: Offer) -> str:
    """Wait until the server answers as a ComfyUI does; the name of its GPU."""
    door = Door(wire)
    try:
        async with asyncio.timeout(offer.startup_s):
            return await door.opened()
    except TimeoutError as error:
        raise WorkerLost(
            f"no ComfyUI answered at {offer.ref} within {offer.startup_s:.0f} s "
            f"(last heard: {door.heard}); is it running there?"
        ) from error


def _checked(url: str) -> str:
    """The address of a worker, without a trailing slash and without credentials."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise BadInput(
            [
                Problem(
                    "--worker-url",
                    f"{parts.hostname or url!r} is no address of a ComfyUI",
                    "give it as http://HOST:PORT, without user and password",
                )
            ]
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
