"""Many nights, spread over processes; each is played alone, so the spread shows in nothing."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Self

from nightkiln.rehearse.playing import Played, play
from nightkiln.rehearse.script import Script
from nightkiln.testing.market.baselines import NightBaselines, drawn, night_baselines

PROCESSES_MAX = 16
# What is left to play is not worth other processes, of which each takes a second to start.
ALONE_S_MAX = 2.0


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """One night, and what others would have made of it."""

    played: Played
    baselines: NightBaselines | None


@dataclass(slots=True)
class Stage:
    """Processes to play in; started when they are first needed, ended with the block."""

    processes: int = field(default_factory=lambda: min(PROCESSES_MAX, os.cpu_count() or 1))
    alone_s_max: float = ALONE_S_MAX
    _stack: ExitStack = field(default_factory=ExitStack)
    _pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._pool = None

    def rehearsed(
        self, script: Script, seeds: Sequence[int], *, compares: bool = True
    ) -> Iterator[Rehearsed]:
        """Every night of ``seeds``, in their order.

        The first is played here, and tells whether the others are worth a pool.
        """
        ahead = deque((script, seed, compares) for seed in seeds)
        slowest_s = 0.0
        while ahead and (self.processes == 1 or slowest_s * len(ahead) <= self.alone_s_max):
            began_s = time.monotonic()
            yield _one(ahead.popleft())
            slowest_s = max(slowest_s, time.monotonic() - began_s)
        if ahead:
            yield from self._started().map(_one, ahead)

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # Not forked: whoever calls may have threads, whose locks would come along.
            pool = ProcessPoolExecutor(
                self.processes, mp_context=get_context("spawn"), initializer=_ignore_interrupts
            )
            self._stack.callback(pool.shutdown, cancel_futures=True)
            self._pool = pool
        return self._pool


def rehearsed(
    script: Script, seeds: Iterable[int], *, compares: bool = True
) -> Iterator[Rehearsed]:
    """Play ``script`` on the nights of ``seeds``; ``compares``: also under every baseline.

    The same nights whoever plays them: results depend on ``script`` and seed alone.
    """
    with Stage() as stage:
        yield from stage.rehearsed(script, list(seeds), compares=compares)


def _ignore_interrupts() -> None:
    """Ctrl-C reaches every process of a terminal; the one that plays for somebody hears it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _one(arguments: tuple[Script, int, bool]) -> Rehearsed:
    script, seed, compares = arguments
    others = None
    if compares:
        night = drawn(script.night_market(seed), seed, script.deadline_s)
        others = night_baselines(night, script.deadline_s)
    return Rehearsed(play(script, seed), others)
