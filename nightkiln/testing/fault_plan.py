"""Which faults are in force, and which opportunities they strike; for every simulated service."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from nightkiln.core.errors import BadInput, Problem
from nightkiln.testing.market.dice import throw

Play = TypeVar("Play")
_SPEC = re.compile(r"([a-z_0-9]+?)(?:@(\d{1,6})(?:x(\d{1,7}))?|%(\d{1,3}(?:\.\d+)?))?")


@dataclass(slots=True)
class _Script:
    """One fault, and which of its opportunities it strikes."""

    name: str
    fault: Any  # of the table: with ``where``, ``play``, ``times`` and ``share``
    first: int  # counted from 1
    times: int
    share: float | None
    seen: int = 0

    def strikes(self, dice: str) -> bool:
        self.seen += 1
        if self.share is not None:
            chance, *_ = throw(f"{dice}/fault/{self.name}/{self.seen}")
            return chance < self.share
        return self.first <= self.seen < self.first + self.times


@dataclass(slots=True)
class FaultPlan(Generic[Play]):
    """Faults in force, read from ``NAME``, ``NAME@N``, ``NAME@NxM`` or ``NAME%PERCENT``.

    The plain name strikes its first opportunities as often as the table says; ``@N`` the N-th,
    ``xM`` M times from there; ``%`` that share of them. ``default`` is a little of everything.
    """

    table: Mapping[str, Any]  # name -> fault, with ``where``, ``play``, ``times`` and ``share``
    dice: str  # what chance depends on, the seed in it
    see: str  # where the names are listed
    repeats_digits: int = 6  # of the M
    struck: Counter[str] = field(default_factory=Counter)
    _scripts: list[_Script] = field(default_factory=list)
    _newest: list[_Script] = field(default_factory=list)  # that struck the newest opportunity

    def add(self, specs: Iterable[str]) -> None:
        """Put more in force.

        Raises:
            BadInput: no such fault.
        """
        for spec in specs:
            if spec == "default":
                self._scripts += [
                    _Script(name, fault, 1, 0, fault.share)
                    for name, fault in self.table.items()
                    if fault.share > 0
                ]
            elif spec != "none":
                self._scripts.append(self._script(spec))

    def clear(self) -> None:
        """Nothing more goes wrong."""
        self._scripts.clear()

    def striking(self, *places: str) -> list[Play]:
        """What strikes here; asking counts it as one opportunity."""
        self._newest = [
            script
            for script in self._scripts
            if not script.fault.where.isdisjoint(places) and script.strikes(self.dice)
        ]
        self.struck.update(script.name for script in self._newest)
        return [script.fault.play for script in self._newest]

    def spare(self, kind: type) -> None:
        """The newest opportunity was none for plays of this kind: they wait for the next."""
        for script in self._newest:
            if isinstance(script.fault.play, kind):
                script.seen -= 1
                self.struck[script.name] -= 1

    def _script(self, spec: str) -> _Script:
        read = _SPEC.fullmatch(spec)
        fault = self.table.get(read[1]) if read is not None else None
        is_long = read is not None and len(read[3] or "") > self.repeats_digits
        if read is None or fault is None or is_long:
            raise BadInput([Problem("faults", f"no fault {spec!r}", self.see)])
        first = int(read[2]) if read[2] else 1
        times = int(read[3]) if read[3] else 1 if read[2] else fault.times
        share = float(read[4]) / 100 if read[4] else None
        return _Script(read[1], fault, first, times, share)
