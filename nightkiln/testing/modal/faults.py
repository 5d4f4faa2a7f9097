"""Which faults are in force, and which opportunities they strike."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from nightkiln.core.errors import BadInput, Problem
from nightkiln.testing.market.dice import throw
from nightkiln.testing.modal.fault_kinds import Fault, Play
from nightkiln.testing.modal.fault_table import FAULTS

SEE = "see 'nightkiln market --with-modal --list-faults'"
_SPEC = re.compile(r"([a-z_0-9]+?)(?:@(\d{1,6})(?:x(\d{1,7}))?|%(\d{1,3}(?:\.\d+)?))?")


@dataclass(slots=True)
class _Script:
    """One fault, and which of its opportunities it strikes."""

    name: str
    fault: Fault
    first: int  # counted from 1
    times: int
    share: float | None
    seen: int = 0

    def strikes(self, seed: str) -> bool:
        self.seen += 1
        if self.share is not None:
            chance, *_ = throw(f"modal-1/{seed}/fault/{self.name}/{self.seen}")
            return chance < self.share
        return self.first <= self.seen < self.first + self.times


@dataclass(slots=True)
class FaultPlan:
    """Faults in force, read from ``NAME``, ``NAME@N``, ``NAME@NxM`` or ``NAME%PERCENT``.

    The plain name strikes its first opportunities as often as the table says; ``@N`` the N-th,
    ``xM`` M times from there; ``%`` that share of them. ``default`` is a little of everything.
    """

    seed: str
    struck: Counter[str] = field(default_factory=Counter)
    _scripts: list[_Script] = field(default_factory=list)

    def add(self, specs: Iterable[str]) -> None:
        """Put more in force.

        Raises:
            BadInput: no such fault.
        """
        for spec in specs:
            if spec == "default":
                self._scripts += [
                    _Script(name, fault, 1, 0, fault.share)
                    for name, fault in FAULTS.items()
                    if fault.share > 0
                ]
            elif spec != "none":
                self._scripts.append(_script(spec))

    def clear(self) -> None:
        """Nothing more goes wrong."""
        self._scripts.clear()

    def striking(self, *places: str) -> list[Play]:
        """What strikes here; asking counts it as one opportunity."""
        newest = [
            script
            for script in self._scripts
            if not script.fault.where.isdisjoint(places) and script.strikes(self.seed)
        ]
        self.struck.update(script.name for script in newest)
        return [script.fault.play for script in newest]


def _script(spec: str) -> _Script:
    read = _SPEC.fullmatch(spec)
    fault = FAULTS.get(read[1]) if read is not None else None
    if read is None or fault is None:
        raise BadInput([Problem("faults", f"no fault {spec!r}", SEE)])
    first = int(read[2]) if read[2] else 1
    times = int(read[3]) if read[3] else 1 if read[2] else fault.times
    share = float(read[4]) / 100 if read[4] else None
    return _Script(read[1], fault, first, times, share)
