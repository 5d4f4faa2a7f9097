"""What this process knows of one lease at the service, from its order to its end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nightkiln.core.model import Lease, Loss, Need
from nightkiln.providers.vast.judging import Ailment
from nightkiln.providers.vast.metering import Meter
from nightkiln.providers.vast.rows import Row

if TYPE_CHECKING:
    from nightkiln.machine.stay import Stay  # asyncssh takes half a second


@dataclass(slots=True, eq=False)
class Held:
    """One lease of ours. Times are epoch seconds."""

    lease: Lease
    need: Need
    label: str
    expires_s: float
    contract: int | None = None  # the service's number of the machine, once it is known
    extras: set[int] = field(default_factory=set)  # further machines of this label: none may live
    is_asked: bool = False  # the order has gone out, so there may be a machine
    is_doubtful: bool = False  # nobody has confirmed the order, nor denied it
    asked_s: float = 0.0
    running_s: float | None = None  # first seen running
    meter: Meter = field(default_factory=Meter)
    row: Row | None = None  # as last listed
    ailing: tuple[Ailment, float] | None = None  # and since when
    absent: int = 0  # listings in a row that lacked it
    is_ending: bool = False  # we have asked for its end, or are about to
    verdict: tuple[str, Loss] | None = None  # why the machine is lost
    doing: str = ""  # on the machine, since somebody is connected
    stay: Stay | None = None  # while somebody is connected
    ordering: asyncio.Task[None] | None = None
    answered: asyncio.Event = field(default_factory=asyncio.Event)  # to the order, or adopted
    found: asyncio.Event = field(default_factory=asyncio.Event)  # ``contract`` is known

    def find(self, contract: int, now_s: float) -> None:
        """There is a machine."""
        self.contract, self.is_doubtful = contract, False
        self.asked_s = self.asked_s or now_s
        self.found.set()
        self.answered.set()

    def loading_s(self) -> float:
        """Seconds of the start for which no GPU was billed; 0 for one that somebody else began."""
        if not self.is_asked or self.running_s is None:
            return 0.0
        return max(0.0, self.running_s - self.asked_s)

    @property
    def since_s(self) -> float:
        """Since when there is a machine, by the service's own word if it says so."""
        said_s = self.row.since_s if self.row is not None else None
        return said_s if said_s is not None else self.asked_s

    @property
    def is_in_doubt(self) -> bool:
        """Whether there may be a machine that nobody has told us of.

        Only an answer or a listing ends that, never the clock: a last look may take its time.
        """
        is_open = self.is_asked and not self.answered.is_set()
        return self.contract is None and (is_open or self.is_doubtful)

    def lose(self, why: str, loss: Loss) -> None:
        """The machine is lost; whoever is connected hears it at once."""
        if self.verdict is None:
            self.verdict = (why, loss)
        if self.stay is not None:
            self.stay.lose(why, loss=loss)
