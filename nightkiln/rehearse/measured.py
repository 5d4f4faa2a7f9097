"""Seconds per job that runs have measured, brought into a simulated market.

No second way to expect anything: what a run's scheduler would make of the same scores
(`nightkiln.core.learning`) is what the market's classes truly take, and what the rehearsed
scheduler believes. How far that may be off is drawn anew for every night.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import exp, log
from statistics import fmean

from nightkiln.core.learning import Knowledge, Pace, Scores
from nightkiln.core.model import Host
from nightkiln.core.priors import Priors, gpu_class
from nightkiln.core.terms import Load
from nightkiln.store.scores import Remembered
from nightkiln.testing.market import Market
from nightkiln.testing.market.dice import lognormal, throw


@dataclass(frozen=True, slots=True)
class ClassMeasured:
    """One class of GPUs on which the workflow has been rendered."""

    gpu: str
    jobs: int
    machines: int
    seconds_per_job: float  # geometric mean over machines
    seen_s: float  # epoch seconds, when the last of them was at work
    is_compared: bool  # a table says how fast it is against other classes
    is_for_rent: bool  # in this market


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of a workflow in a market."""

    classes: tuple[ClassMeasured, ...]  # the one with most jobs first
    priors: Priors  # what the measured seconds are told against
    machines: Mapping[Host, Pace]
    expected: Mapping[str, float]  # seconds per job by the market's names of its classes
    doubt: Mapping[str, float]  # sd of ln of these, luck of single machines apart

    @property
    def is_used(self) -> bool:
        """Whether it says anything of what is for rent."""
        return any(one.is_compared for one in self.classes)

    def market(self, market: Market) -> Market:
        """The market with these seconds in the place of its own."""
        return self._paced(market, self.expected)

    def night_market(self, market: Market, seed: int) -> Market:
        """The same as it may truly be: one draw of a night moves every class by its doubt."""
        unit, *_ = throw(f"measured-1/{seed}")
        off = {name: lognormal(unit, doubt) for name, doubt in self.doubt.items()}
        return self._paced(market, {name: s * off[name] for name, s in self.expected.items()})

    def _paced(self, market: Market, seconds: Mapping[str, float]) -> Market:
        classes = {
            name: replace(facts, seconds_per_job=seconds[name], prior_seconds_per_job=0.0)
            for name, facts in market.classes.items()
        }
        fallback = replace(market.fallback, seconds_per_job=seconds[market.fallback.gpu])
        return replace(market, classes=classes, fallback=fallback)


def measured_in(market: Market, remembered: Remembered, priors: Priors) -> Measured | None:
    """What earlier runs of a workflow say of a market's classes; None if there were none.

    ``priors`` are those that the runs learned against.
    """
    seen = {host: pace for host, pace in remembered.scores.machines.items() if pace.jobs > 0}
    if not seen:
        return None
    file = _figures(market)
    # A class that only the market file knows has its figure there for a prior.
    table = {gpu_class(name): each for name, each in file.items()} | dict(priors.seconds_per_job)
    own = replace(priors, seconds_per_job=table)
    machines = {host: _told_against(own, pace, priors) for host, pace in seen.items()}
    knowledge = Knowledge(own, Load(), Scores(machines=machines))
    paces = {name: knowledge.class_pace(gpu_class(name)) for name in file}
    classes = _classes(seen, priors, remembered.seen_s)
    for_rent = {gpu_class(name) for name in file}
    return Measured(
        classes=tuple(
            replace(one, is_compared=one.gpu in table, is_for_rent=one.gpu in for_rent)
            for one in sorted(classes, key=lambda one: (-one.jobs, one.gpu))
        ),
        priors=own,
        machines=machines,
        expected={name: seconds for name, (seconds, _) in paces.items()},
        doubt={name: doubt for name, (_, doubt) in paces.items()},
    )


def _figures(market: Market) -> dict[str, float]:
    """What the market file would have one expect, the fallback's GPU included."""
    fallback = market.fallback
    return {fallback.gpu: fallback.seconds_per_job} | {
        name: facts.prior_seconds_per_job or facts.seconds_per_job
        for name, facts in market.classes.items()
    }


def _told_against(own: Priors, pace: Pace, priors: Priors) -> Pace:
    """The same seconds, as a share of another prior."""
    return replace(pace, log_s=pace.log_s + log(_prior_s(priors, pace) / _prior_s(own, pace)))


def _prior_s(priors: Priors, pace: Pace) -> float:
    return priors.seconds_per_job.get(pace.gpu, priors.seconds_unknown)


def _classes(
    seen: Mapping[Host, Pace], priors: Priors, seen_s: Mapping[Host, float]
) -> Iterator[ClassMeasured]:
    for gpu in {pace.gpu for pace in seen.values()}:
        mine = {host: pace for host, pace in seen.items() if pace.gpu == gpu}
        log_s = fmean(pace.log_s for pace in mine.values())
        yield ClassMeasured(
            gpu=gpu,
            jobs=round(sum(pace.jobs for pace in mine.values())),
            machines=len(mine),
            seconds_per_job=exp(log_s) * _prior_s(priors, next(iter(mine.values()))),
            seen_s=max(seen_s.get(host, 0.0) for host in mine),
            is_compared=False,
            is_for_rent=False,
        )
