"""What can be made to go wrong at the stand-in, and when."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

FAULTS = {
    "die": "the process ends at once, as with kill -9 (in a test: every connection is cut)",
    "error": "a node raises ValueError",
    "oom": "a node runs out of GPU memory",
    "cuda": "the card is broken: a node fails with a CUDA error",
    "disk-full": "saving fails with 'No space left on device'",
    "interrupted": "somebody else interrupts the prompt",
    "worker-thread-death": "HTTP goes on answering, but the prompt runs for ever",
    "forget": "history is emptied when the prompt ends, as after a restart",
    "slow": "the prompt takes 20 times as long, and 2 s at least",
    "no-outputs": "the prompt succeeds without any output",
    "corrupt": "one bit of the file's data is wrong",
    "blank": "the picture is all one colour",
    "missing-file": "/view answers 404",
    "truncate": "the connection is cut half-way through the file",
    "html": "/view answers 200 with a login page",
    "huge": "/view never stops sending",
    "evil-names": "the file has a name that would escape from a folder",
    "lost-reply": "POST /prompt is carried out but not answered",
    "server-error": "POST /prompt is carried out but answered 500",
    "partial-node-errors": "POST /prompt answers 200 with node_errors, and drops an output",
}
# Counted as prompts are accepted; all others are counted as prompts are executed.
AT_SUBMISSION = frozenset({"lost-reply", "server-error", "partial-node-errors"})

SLOW_FACTOR = 20
SLOW_S_MIN = 2.0

_SPEC = re.compile(r"(?P<name>[a-z-]+)(@(?P<first>[1-9]\d{0,8})(x(?P<count>[1-9]\d{0,8}))?)?")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong, from the ``first`` prompt on, ``count`` times."""

    name: str
    first: int = 1
    count: int | None = None  # None: from then on always

    @classmethod
    def parse(cls, spec: str) -> Self:
        """Read ``name``, ``name@N`` or ``name@NxM``.

        Raises:
            ValueError: there is no such fault, or it is written differently.
        """
        match = _SPEC.fullmatch(spec)
        if match is None or match["name"] not in FAULTS:
            raise ValueError(f"no fault {spec!r}; NAME, NAME@N or NAME@NxM of {', '.join(FAULTS)}")
        if match["first"] is None:
            return cls(match["name"])
        return cls(match["name"], int(match["first"]), int(match["count"] or 1))

    def strikes(self, number: int) -> bool:
        """Whether it befalls the prompt of that number, counted from 1."""
        return self.first <= number and (self.count is None or number < self.first + self.count)


@dataclass(slots=True)
class FaultPlan:
    """Which faults befall which prompt; counts the prompts."""

    faults: tuple[Fault, ...]
    accepted: int = field(default=0, init=False)
    executed: int = field(default=0, init=False)

    @classmethod
    def of(cls, specs: Iterable[str]) -> Self:
        return cls(tuple(Fault.parse(spec) for spec in specs))

    def next_accepted(self) -> frozenset[str]:
        """The names of the faults that befall the prompt being accepted."""
        self.accepted += 1
        return self._striking(self.accepted) & AT_SUBMISSION

    def next_executed(self) -> frozenset[str]:
        """The names of the faults that befall the prompt about to be executed."""
        self.executed += 1
        return self._striking(self.executed) - AT_SUBMISSION

    def _striking(self, number: int) -> frozenset[str]:
        return frozenset(fault.name for fault in self.faults if fault.strikes(number))
