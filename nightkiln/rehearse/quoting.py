"""A quote: what a batch will probably cost and when it will be done, and what would fit instead."""

from __future__ import annotations

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
LUMPS = 250  # per night


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
            "basis": "market file",
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


def quoted(script: Script, budget: Usd) -> Quote:
    """Play few nights of lumps, without the budget, and look whether they keep within it."""
    with Stage() as stage:
        summary = _played(stage, script, NIGHTS)
        if _is_within(summary, budget):
            return Quote(summary, budget)
        return Quote(
            summary,
            budget,
            _jobs_that_fit(stage, summary, budget),
            _deadline_that_fits_s(stage, summary, budget),
        )


def _played(stage: Stage, script: Script, nights: int) -> Summary:
    lump = lump_for(script.market, script.deadline_s, lumps=LUMPS)
    lumped = replace(script, lump=lump, budget=None)
    return summary_of(lumped, list(stage.rehearsed(lumped, range(nights), compares=False)))


def _is_within(summary: Summary, budget: Usd) -> bool:
    usd = summary.spread(lambda night: night.usd).p90
    return usd <= float(budget) and summary.deadline_met_fraction >= SURE


def _jobs_that_fit(stage: Stage, summary: Summary, budget: Usd) -> int:
    """A part of the batch that budget and deadline are enough for; 0: none was found."""
    script = summary.script
    jobs = script.market.batch.jobs
    for _ in range(GUESSES_MAX):
        usd = max(summary.spread(lambda night: night.usd).p90, 1e-9)
        done = summary.spread(lambda night: night.jobs_done).p10
        affordable = done * float(budget) / usd
        jobs = min(jobs - 1, int(CAREFUL * min(affordable, done)))
        if jobs < 1:
            return 0
        smaller = replace(script, market=with_jobs(script.market, jobs))
        summary = _played(stage, smaller, NIGHTS_OF_A_GUESS)
        if _is_within(summary, budget):
            return _rounded(jobs)
    return 0


def _deadline_that_fits_s(stage: Stage, summary: Summary, budget: Usd) -> float | None:
    """A deadline by which the whole batch is affordable."""
    for deadline_s in _later(summary.script.deadline_s):
        later = replace(summary.script, deadline_s=deadline_s)
        if _is_within(_played(stage, later, NIGHTS_OF_A_GUESS), budget):
            return deadline_s
    return None


def _later(deadline_s: float) -> Iterator[float]:
    return (times * deadline_s for times in LATER if times * deadline_s <= DEADLINE_S_MAX)


def _rounded(jobs: int) -> int:
    """Two digits are all that such a guess is worth."""
    step = int(10.0 ** max(0, len(str(jobs)) - 2))
    return jobs // step * step
