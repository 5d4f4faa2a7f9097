"""Baseline (c): what nobody can beat, and a real plan that comes close to it.

A column is a stretch that will boot, rented as one kind: at most ``jobs_max`` jobs by the
deadline, ``usd_fixed`` once and ``usd_per_job`` each. The cheapest mix of columns and fallback
that renders the batch is a linear program; its Lagrangian dual

    max over L in [0, fallback USD per job] of
    L * jobs - sum over stretches of max(0, max over its columns of
                                         (L - usd_per_job) * jobs_max - usd_fixed)

needs no solver, and by weak duality every L gives a valid bound. Every real plan is feasible
in the program, which also lets a machine overlap with itself, no job fail, losses be seen at
once and the fallback start without delay: the bound is never too high.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nightkiln.core.model import Kind
from nightkiln.testing.market.baselines.columns import Column, columns
from nightkiln.testing.market.baselines.fallback_only import (
    attempts,
    fewest_containers,
    jobs_doable,
)
from nightkiln.testing.market.baselines.rental import RENTED_KINDS, S_PER_HOUR
from nightkiln.testing.market.night import Night

FALLBACK_LUCK_SIGMAS = 3.0  # the bound's containers are faster than nearly all
STEPS_MAX = 200  # of the search for L; about 10 are needed
PRECISION = 1e-12  # relative, of two values of the dual that count as equal


@dataclass(frozen=True, slots=True)
class Bound:
    """No plan for this night costs less than ``usd``."""

    usd: float
    usd_per_job_more: float  # the L that gave it: what one more job would cost


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan that works, made by somebody who knows the whole night."""

    usd: float
    leases: int
    jobs_on_fallback: float


@dataclass(frozen=True, slots=True)
class _Use:
    """A column, and the machine that it takes."""

    machine: str
    column: Column


def clairvoyant_bound(
    night: Night, deadline_s: float, *, kinds: Sequence[Kind] = RENTED_KINDS
) -> Bound:
    """The most that the dual gives; ``kinds`` says which the clairvoyant may rent."""
    choices = [
        columns(night, stretch, deadline_s, kinds, may_round=True) for stretch in night.stretches
    ]
    return dual_maximum(choices, jobs_doable(night.market), _fallback_usd_per_job(night))


def clairvoyant_plan(night: Night, deadline_s: float) -> Plan:
    """A feasible plan near the bound: each machine once, failed jobs rendered again.

    Uses to the full what the dual does, then fills up; also tries to do without each of them,
    and without the dearest few.
    """
    uses = [
        _Use(stretch.machine, column)
        for stretch in night.stretches
        for column in columns(night, stretch, deadline_s, RENTED_KINDS, may_round=False)
    ]
    uses.sort(key=lambda use: (use.column.usd_per_job_whole, use.machine))
    whole = _used_to_the_full(night, uses)
    starts = [whole[:count] for count in range(len(whole) + 1)]
    starts += [whole[:index] + whole[index + 1 :] for index in range(len(whole))]
    return min(
        (_filled(night, start, uses, deadline_s) for start in starts), key=lambda plan: plan.usd
    )


def dual(
    choices: Sequence[Sequence[Column]], jobs: float, usd_per_job: float
) -> tuple[float, float]:
    """The dual's value at ``usd_per_job``, a valid bound, and its slope there."""
    value, slope = usd_per_job * jobs, jobs
    for ways in choices:
        most, most_jobs = 0.0, 0.0
        for usd_fixed, per_job, jobs_max in ways:
            gain = (usd_per_job - per_job) * jobs_max - usd_fixed
            if gain > most:
                most, most_jobs = gain, jobs_max
        value -= most
        slope -= most_jobs
    return value, slope


def dual_maximum(
    choices: Sequence[Sequence[Column]], jobs: float, fallback_usd_per_job: float
) -> Bound:
    """The highest point of the dual: where two tangents meet, until they touch it.

    It is concave and piecewise linear, so that few steps are exact.
    """
    low, high = 0.0, fallback_usd_per_job
    (low_value, low_slope), (high_value, high_slope) = (
        dual(choices, jobs, low),
        dual(choices, jobs, high),
    )
    if high_slope >= 0:
        return Bound(high_value, high)
    best = max(Bound(low_value, low), Bound(high_value, high), key=lambda bound: bound.usd)
    for _ in range(STEPS_MAX):
        step = (high_value - low_value - high_slope * (high - low)) / (low_slope - high_slope)
        middle = low + step
        value, slope = dual(choices, jobs, middle)
        if value > best.usd:
            best = Bound(value, middle)
        if low_value + low_slope * step - value <= PRECISION * abs(value):
            break
        if slope >= 0:
            low, low_value, low_slope = middle, value, slope
        else:
            high, high_value, high_slope = middle, value, slope
    return best


def _fallback_usd_per_job(night: Night) -> float:
    fallback = night.market.fallback
    luckiest = math.exp(-FALLBACK_LUCK_SIGMAS * fallback.sigma)
    return fallback.usd_h / S_PER_HOUR * fallback.seconds_per_job * luckiest


def _used_to_the_full(night: Night, uses: Sequence[_Use]) -> list[_Use]:
    """What the dual uses, the best of each machine, as far as all have work to their end."""
    by_machine: dict[str, list[_Use]] = {}
    for use in uses:
        by_machine.setdefault(use.machine, []).append(use)
    left = attempts(night.market)
    choices = [[use.column for use in ways] for ways in by_machine.values()]
    usd_per_job = dual_maximum(choices, left, _fallback_usd_per_job(night)).usd_per_job_more

    def gain(use: _Use) -> float:
        return usd_per_job * use.column.jobs_max - use.column.usd(use.column.jobs_max)

    best = sorted(
        (use for ways in by_machine.values() if gain(use := max(ways, key=gain)) > 0),
        key=lambda use: use.column.usd_per_job_whole,
    )
    whole = []
    for use in best:
        if use.column.jobs_max > left:
            break
        left -= use.column.jobs_max
        whole.append(use)
    return whole


def _filled(night: Night, whole: Sequence[_Use], uses: Sequence[_Use], deadline_s: float) -> Plan:
    """``whole`` used to the full, the rest by whatever does most of it cheapest per job."""
    left = attempts(night.market) - math.fsum(use.column.jobs_max for use in whole)
    usd = math.fsum(use.column.usd(use.column.jobs_max) for use in whole)
    machines = {use.machine for use in whole}
    while left > 0:
        on_fallback_usd = fewest_containers(night, left, within_s=deadline_s).usd(left)
        use = _cheapest_for(left, uses, without=machines, below=on_fallback_usd / left)
        if use is None:
            return Plan(usd + on_fallback_usd, len(machines), left)
        jobs = min(left, use.column.jobs_max)
        usd += use.column.usd(jobs)
        machines.add(use.machine)
        left -= jobs
    return Plan(usd, len(machines), 0.0)


def _cheapest_for(
    jobs: float, uses: Sequence[_Use], *, without: set[str], below: float
) -> _Use | None:
    """What does as many of ``jobs`` as it can for the least USD per job; None: none ``below``."""
    found = None
    for use in uses:
        if use.column.usd_per_job_whole >= below:
            break  # they are sorted by it, and nothing is cheaper than when used to the full
        if use.machine in without:
            continue
        done = min(jobs, use.column.jobs_max)
        if use.column.usd(done) / done < below:
            found, below = use, use.column.usd(done) / done
    return found
