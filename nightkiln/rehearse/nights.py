"""Many nights, spread over processes; each is played alone, so the spread shows in nothing."""

from __future__ import annotations

import os
import signal
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
ALONE_MAX = 2  # nights that are not worth another process, which takes a second to start


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """One night, and what others would have made of it."""

    played: Played
    baselines: NightBaselines | None


@dataclass(slots=True)
class Stage:
    """Processes to play in; started when they are first needed, ended with the block."""

    processes: int = field(default_factory=lambda: min(PROCESSES_MAX, os.cpu_count() or 1))
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
        """Every night of ``seeds``, in their order."""
        arguments = [(script, seed, compares) for seed in seeds]
        if len(seeds) <= ALONE_MAX or self.processes == 1:
            return map(_one, arguments)
        return iter(self._started().map(_one, arguments))

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
