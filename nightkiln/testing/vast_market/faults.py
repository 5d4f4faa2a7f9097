"""Which faults are in force, and which calls they strike."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from nightkiln.core.errors import BadInput, Problem
from nightkiln.testing.market.dice import throw
from nightkiln.testing.vast_market.fault_kinds import Afflicts, Fault, Play
from nightkiln.testing.vast_market.fault_table import FAULTS

SEE = "see 'nightkiln market --list-faults'"
_SPEC = re.compile(r"([a-z_0-9]+?)(?:@(\d{1,6})(?:x(\d{1,6}))?|%(\d{1,3}(?:\.\d+)?))?")


@dataclass(slots=True)
class _Script:
    """One fault, and which of its calls it strikes."""

    name: str
    fault: Fault
    first: int  # counted from 1
    times: int
    share: float | None
    calls: int = 0

    def strikes(self, seed: str) -> bool:
        self.calls += 1
        if self.share is not None:
            chance, *_ = throw(f"vast-1/{seed}/fault/{self.name}/{self.calls}")
            return chance < self.share
        return self.first <= self.calls < self.first + self.times


@dataclass(slots=True)
class FaultPlan:
    """Faults in force, read from ``NAME``, ``NAME@N``, ``NAME@NxM`` or ``NAME%PERCENT``.

    The plain name strikes its first calls as often as the table says; ``@N`` the N-th, ``xM`` M
    times from there; ``%`` that share of them. ``default`` is a little of everything.
    """

    seed: str
    struck: Counter[str] = field(default_factory=Counter)
    _scripts: list[_Script] = field(default_factory=list)
    _newest: list[_Script] = field(default_factory=list)  # that struck the newest call

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

    def striking(self, endpoint: str) -> list[Play]:
        """What strikes this call; asking counts it."""
        concerned = [script for script in self._scripts if endpoint in script.fault.where]
        self._newest = [script for script in concerned if script.strikes(self.seed)]
        self.struck.update(script.name for script in self._newest)
        return [script.fault.play for script in self._newest]

    def spare(self) -> None:
        """Nothing was rented by the newest call: its troubles wait for a machine."""
        for script in self._newest:
            if isinstance(script.fault.play, Afflicts):
                script.calls -= 1
                self.struck[script.name] -= 1


def _script(spec: str) -> _Script:
    read = _SPEC.fullmatch(spec)
    fault = FAULTS.get(read[1]) if read is not None else None
    if read is None or fault is None:
        raise BadInput(
            [Problem("faults", f"no fault {spec!r}", "see 'nightkiln market --list-faults'")]
        )
    first = int(read[2]) if read[2] else 1
    times = int(read[3]) if read[3] else 1 if read[2] else fault.times
    share = float(read[4]) / 100 if read[4] else None
    return _Script(read[1], fault, first, times, share)
