"""A quote: what a batch will probably cost and when it will be done, and what would fit instead."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from nightkiln.core.model import Usd
from nightkiln.rehearse.nights import Stage
from nightkiln.rehearse.script import Script, lump_for, with_jobs
from nightkiln.rehearse.summary import Spread, Summary, summary_of

NIGHTS = 16
NIGHTS_OF_A_GUESS = 6  # to see whether a smaller batch or a later deadline fits
GUESSES_MAX = 3
SURE = 0.9  # of the nights
CAREFUL = 0.95  # a share of what should fit, so that the first guess mostly does
LATER = (2, 4, 8)  # times the deadline
DEADLINE_S_MAX = 7 * 24 * 3600.0
NIGHTS_MIN = 4  # however long they take
LUMPS, LUMPS_PER_MACHINE = 250, 20  # coarser than a rehearsal: a quote is to be quick
PLAYING_S_MAX = 6.0  # then no further night is begun; a quote takes 20 s at most, for any size
GUESSING_S_MAX = 9.0  # since the start: then what fits is told by rule of three


@dataclass(frozen=True, slots=True)
class Quote:
    """What is expected, and whether it is within budget and deadline nine times out of ten."""

    summary: Summary
    budget: Usd
    jobs_that_fit: int | None = None  # by this deadline; None: all of them
    deadline_that_fits_s: float | None = None  # for all jobs; None: none was found, or needed

    @property
    def usd(self) -> Spread:
        return self.summary.spread(lambda night: night.usd)

    @property
    def finish_s(self) -> Spread:
        return self.summary.spread(lambda night: night.finish_s)

    @property
    def is_within(self) -> bool:
        return _is_within(self.summary, self.budget)

    def as_object(self) -> dict[str, Any]:
        """For programs."""
        leases = self.summary.spread(lambda night: night.leases_most)
        batch = self.summary.script.market.batch
        found = self.summary.as_object()
        return found | {
            "budget_usd": float(self.budget),
            "fits": self.is_within,
            "jobs_that_fit": self.jobs_that_fit,
            "deadline_that_fits_s": self.deadline_that_fits_s,
            "machines_p50": leases.p50,
            "machines_p90": leases.p90,
            "machine_disk_gb": batch.disk_gb,
            "network_in_gb": self.summary.mean(lambda night: night.gb_in),
            "results_gb": self.results_gb,
            "results_per_s": self.results_per_s,
        }

    @property
    def results_gb(self) -> float:
        """What the controller downloads, verifies and keeps."""
        batch = self.summary.script.market.batch
        return batch.jobs * batch.result_mb / 1000

    @property
    def results_per_s(self) -> float:
        """How many the controller has to take in, over the busiest tenth of the nights."""
        return self.summary.spread(lambda night: night.jobs_done / max(1.0, night.finish_s)).p90


def quoted(script: Script, budget: Usd, *, first_seed: int = 0) -> Quote:
    """Play few nights of lumps, without the budget, and look whether they keep within it.

    ``first_seed``: of these nights, where the seed of the night to come is known.
    """
    begun_s = time.monotonic()
    with Stage() as stage:
        troupe = _Troupe(stage, budget, begun_s + GUESSING_S_MAX, first_seed)
        summary = troupe.played(script, NIGHTS, begun_s + PLAYING_S_MAX)
        if troupe.is_within(summary):
            return Quote(summary, budget)
        return Quote(
            summary, budget, troupe.jobs_that_fit(summary), troupe.deadline_that_fits_s(summary)
        )


@dataclass(frozen=True, slots=True)
class _Troupe:
    """Plays as long as there is time."""

    stage: Stage
    budget: Usd
    until_s: float  # on the monotonic clock
    first_seed: int

    def played(self, script: Script, nights: int, until_s: float) -> Summary:
        lump = lump_for(
            script.market, script.deadline_s, lumps=LUMPS, per_machine=LUMPS_PER_MACHINE
        )
        lumped = replace(script, lump=lump, budget=None)
        found = []
        seeds = range(self.first_seed, self.first_seed + nights)
        for night in self.stage.rehearsed(lumped, seeds, compares=False):
            found.append(night)
            if len(found) >= NIGHTS_MIN and time.monotonic() > until_s:
                break
        return summary_of(lumped, found)

    def is_within(self, summary: Summary) -> bool:
        return _is_within(summary, self.budget)

    def jobs_that_fit(self, summary: Summary) -> int:
        """A part of the batch that budget and deadline are enough for; 0: none was found."""
        script = summary.script
        jobs = script.market.batch.jobs
        for _ in range(GUESSES_MAX):
            usd = max(summary.spread(lambda night: night.usd).p90, 1e-9)
            done = summary.spread(lambda night: night.jobs_done).p10
            affordable = done * float(self.budget) / usd
            jobs = min(jobs - 1, int(CAREFUL * min(affordable, done)))
            if jobs < 1:
                return 0
            if self._is_out_of_time:
                return _rounded(jobs)
            smaller = replace(script, market=with_jobs(script.market, jobs))
            summary = self.played(smaller, NIGHTS_OF_A_GUESS, self.until_s)
            if self.is_within(summary):
                return _rounded(jobs)
        return 0

    def deadline_that_fits_s(self, summary: Summary) -> float | None:
        """A deadline by which the whole batch is affordable."""
        for deadline_s in _later(summary.script.deadline_s):
            if self._is_out_of_time:
                return None
            later = replace(summary.script, deadline_s=deadline_s)
            if self.is_within(self.played(later, NIGHTS_OF_A_GUESS, self.until_s)):
                return deadline_s
        return None

    @property
    def _is_out_of_time(self) -> bool:
        return time.monotonic() > self.until_s


def _is_within(summary: Summary, budget: Usd) -> bool:
    usd = summary.spread(lambda night: night.usd).p90
    return usd <= float(budget) and summary.deadline_met_fraction >= SURE


def _later(deadline_s: float) -> Iterator[float]:
    return (times * deadline_s for times in LATER if times * deadline_s <= DEADLINE_S_MAX)


def _rounded(jobs: int) -> int:
    """Two digits are all that such a guess is worth."""
    step = int(10.0 ** max(0, len(str(jobs)) - 2))
    return jobs // step * step
