"""What can be made to go wrong at the stand-in, and when."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from nightkiln.core.model import Graph

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

_SPEC = re.compile(
    r"(?P<name>[a-z-]+)(@(?P<first>[1-9]\d{0,8})(x(?P<count>[1-9]\d{0,8}))?)?(~(?P<text>.{1,80}))?"
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong, from the ``first`` prompt on, ``count`` times; or with a text."""

    name: str
    first: int = 1
    count: int | None = None  # None: from then on always
    text: str = ""  # that the prompt has in it somewhere

    @classmethod
    def parse(cls, spec: str) -> Self:
        """Read ``name``, ``name@N`` or ``name@NxM``, each with ``~TEXT`` or without.

        Raises:
            ValueError: there is no such fault, or it is written differently.
        """
        match = _SPEC.fullmatch(spec)
        if match is None or match["name"] not in FAULTS:
            how = "NAME, NAME@N, NAME@NxM, each with ~TEXT or without"
            raise ValueError(f"no fault {spec!r}; {how}, of {', '.join(FAULTS)}")
        text = match["text"] or ""
        if match["first"] is None:
            return cls(match["name"], text=text)
        return cls(match["name"], int(match["first"]), int(match["count"] or 1), text)

    def strikes(self, number: int, prompt: str) -> bool:
        """Whether it befalls a prompt, the one of that number, counted from 1."""
        return (
            self.text in prompt
            and self.first <= number
            and (self.count is None or number < self.first + self.count)
        )


@dataclass(slots=True)
class FaultPlan:
    """Which faults befall which prompt; counts the prompts."""

    faults: tuple[Fault, ...]
    accepted: int = field(default=0, init=False)
    executed: int = field(default=0, init=False)

    @classmethod
    def of(cls, specs: Iterable[str]) -> Self:
        return cls(tuple(Fault.parse(spec) for spec in specs))

    def next_accepted(self, graph: Graph) -> frozenset[str]:
        """The names of the faults that befall the prompt being accepted."""
        self.accepted += 1
        return self._striking(self.accepted, graph) & AT_SUBMISSION

    def next_executed(self, graph: Graph) -> frozenset[str]:
        """The names of the faults that befall the prompt about to be executed."""
        self.executed += 1
        return self._striking(self.executed, graph) - AT_SUBMISSION

    def _striking(self, number: int, graph: Graph) -> frozenset[str]:
        prompt = json.dumps(graph) if any(fault.text for fault in self.faults) else ""
        return frozenset(fault.name for fault in self.faults if fault.strikes(number, prompt))
