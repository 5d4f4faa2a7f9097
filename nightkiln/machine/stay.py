"""Our stay on one rented machine: what the provider knows of it, and what we ask of it.

Nothing here belongs to one provider: whoever rents out a machine that is reached over SSH makes a
``Stay`` and enters ``rendering(stay)``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nightkiln.core.errors import WorkerLost
from nightkiln.core.model import Lease, Loss, Need
from nightkiln.machine.goods import Goods
from nightkiln.machine.keys import BatchKeys

QUIET_S = 900.0  # without a heartbeat, then a machine ends itself


@dataclass(frozen=True, slots=True)
class Address:
    """Where a machine's SSH server is reached."""

    host: str
    port: int
    user: str = "root"


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """How patient the connection to a machine is."""

    connect_s_max: float = 15.0  # for one try, with its login
    retry_s: float = 2.0  # between tries
    broken_s: float = 60.0  # nothing but timeouts: the network of the machine is broken
    reconnect_s_max: float = 120.0  # of mending a connection that was there
    # A dead connection is noticed within 12 s: before a request to ComfyUI gives up by itself.
    keepalive_s: float = 4.0
    keepalives_max: int = 2  # unanswered in a row


@dataclass(frozen=True, slots=True)
class ArrivalLimits:
    """What a machine must be, and how fast, before it gets a job. None: not asked for."""

    memory_share_min: float = 0.93  # of the promised GPU memory: firmware keeps some of it
    free_share_min: float = 0.90  # of the real GPU memory; less: another tenant is on the card
    busy_percent_max: float = 50.0  # of the time, before our first job: another tenant, too
    cuda_min: float | None = None  # what the image was built for
    disk_gb: float | None = None  # as asked for when it was rented
    disk_share_min: float = 0.90  # of that: file systems keep some of it
    download_mbps_min: float | None = 25.0  # megabits per second, of models
    download_judged_after_s: float = 30.0  # a transfer needs a while to get going
    link_mbps_min: float | None = 4.0  # from the machine to us: a picture takes a few seconds
    armed_s_max: float = 60.0  # from the first login until its dead-man's switch says so
    look_s: float = 1.0  # between two looks at anything that is going to change
    renew_s: float = 10.0  # between two renewals of addresses: it reads them when it needs them
    provisioning_silent_s: float = 60.0  # its status changes every second
    link: LinkLimits = field(default_factory=LinkLimits)


def _nothing_told(_: str, __: Mapping[str, object]) -> None:
    """Nobody wants to hear of progress."""


@dataclass(slots=True)
class Stay:
    """Everything ``rendering`` needs to know of one lease. Made inside a running event loop."""

    lease: Lease
    need: Need
    # Asked again and again until it tells an address, and again whenever connecting has failed:
    # a machine may come back under another one. Raises what ends the stay.
    where: Callable[[], Awaitable[Address | None]]
    keys: BatchKeys
    pin: Path  # holds the machine's host key from the first contact until the lease is released
    goods: Goods
    expires_s: Callable[[], float]  # epoch seconds; later, when the lease has been extended
    loading_s: Callable[[], float]  # seconds of its start that were not billed in full
    quiet_s: float = QUIET_S
    limits: ArrivalLimits = field(default_factory=ArrivalLimits)
    tell: Callable[[str, Mapping[str, object]], None] = _nothing_told  # (stage, facts)
    clock: Callable[[], float] = time.time
    lost: asyncio.Future[WorkerLost] = field(default_factory=lambda: _loop().create_future())

    def lose(self, why: str, *, loss: Loss = Loss.MARKET) -> None:
        """The provider has seen that the machine is gone; ``rendering`` ends at once."""
        if not self.lost.done():
            self.lost.set_result(WorkerLost(why, loss=loss))


def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()
