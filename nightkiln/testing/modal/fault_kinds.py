"""What a fault can be: how it plays, where and how often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from grpclib import Status

# Places where faults strike that are no calls of the control plane.
RUN, START, BLOB_PUT, BLOB_GET = "run", "start", "blob_put", "blob_get"


@dataclass(frozen=True, slots=True)
class Refused:
    """The call is answered with this, and nothing is done."""

    status: Status
    says: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The call is carried out, and its answer never arrives, however often it is repeated."""


@dataclass(frozen=True, slots=True)
class Late:
    """The call is answered after so many seconds of the wall."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The call's results are gone, as after the seven days for which they are kept."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The bucket answers like this."""

    status: int
    says: str


@dataclass(frozen=True, slots=True)
class Garbled:
    """The bucket gives half of what was put there."""


@dataclass(frozen=True, slots=True)
class Preempted:
    """The container is taken away so many seconds into the input, which then runs again."""

    after_s: float


@dataclass(frozen=True, slots=True)
class Frozen:
    """The container stops in the middle of the input and is billed on."""

    after_s: float


@dataclass(frozen=True, slots=True)
class Ended:
    """The container dies and the input ends with this ``GenericStatus``, given up."""

    status: str
    says: str
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Crashes:
    """The container dies while it starts."""

    says: str


@dataclass(frozen=True, slots=True)
class NeverUp:
    """The container starts for ever."""


@dataclass(frozen=True, slots=True)
class Slow:
    """The container takes so many times as long to start."""

    times: float


@dataclass(frozen=True, slots=True)
class NextGpu:
    """The GPU that was asked for first is not to be had."""


Play: TypeAlias = (
    Refused
    | Lost
    | Late
    | Forgotten
    | Answered
    | Garbled
    | Preempted
    | Frozen
    | Ended
    | Crashes
    | NeverUp
    | Slow
    | NextGpu
)


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens, where, and how often in a row when nobody says otherwise."""

    says: str
    where: frozenset[str]  # names of calls, or of the places above
    play: Play
    times: int = 1
    share: float = 0.0  # of opportunities, in ``default``
