"""How a night is put on: its clock, its props, and what goes wrong beyond what the night brings."""

from __future__ import annotations

from dataclasses import dataclass, field

from nightkiln.core.model import Usd
from nightkiln.testing.market.night import Window


@dataclass(frozen=True, slots=True)
class ServiceFaults:
    """What is wrong with the service, beyond what the night itself brings."""

    outages: tuple[Window, ...] = ()  # every verb fails
    storms: tuple[Window, ...] = ()  # most calls are refused with 429
    release_failures: int = 0  # the first releases of each lease that fail
    lost_replies: int = 0  # the first so many rentals happen, but their answer is lost
    nonsense_prices: tuple[Usd, ...] = ()  # per hour, shown by the cheapest offers


@dataclass(frozen=True, slots=True)
class Stage:
    """How a night is put on."""

    faults: ServiceFaults = field(default_factory=ServiceFaults)
    epoch_s: float = 0.0  # epoch seconds of the loop's time 0, for timings and ``expires_at_s``
    starts_s: float | None = None  # loop time of the night's start; None: when it is entered
    picture: bytes | None = None  # what ``save`` writes for each output; None: nothing
    fleet: str = "main"  # on the label of everything that is rented
    is_mortal: bool = False  # leases end at ``expires_at_s`` unless extended
