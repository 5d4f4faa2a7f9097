"""Baseline (a): the fallback alone does the whole night, started at once.

Jobs are fluid: containers share them without remainder and stop together.
"""

from __future__ import annotations

from dataclasses import dataclass

from nightkiln.testing.market.baselines.rental import S_PER_HOUR, Bill, Outcome
from nightkiln.testing.market.night import Night
from nightkiln.testing.market.params import Market

WASTED_SHARE_MAX = 0.9  # of attempts; beyond it a batch would never end


@dataclass(frozen=True, slots=True)
class Fleet:
    """Containers of the fallback, all started at once: what jobs take and cost on them."""

    market: Market
    containers: int = 0
    jobs_per_s: float = 0.0  # of all of them

    def joined_by(self, s_per_job: float) -> Fleet:
        """With one container more, of that pace."""
        return Fleet(self.market, self.containers + 1, self.jobs_per_s + 1 / s_per_job)

    def finish_s(self, jobs: float) -> float:
        """Seconds from the start until ``jobs`` are done, cold start included."""
        return self.market.fallback.cold_s + jobs / self.jobs_per_s

    def usd(self, jobs: float) -> float:
        """Every container is billed from its cold start to the end of its scale-down."""
        billed_s = self.finish_s(jobs) + self.market.fallback.scaledown_s
        return self.containers * billed_s * self.market.fallback.usd_h / S_PER_HOUR


def jobs_doable(market: Market) -> float:
    """Jobs of the batch that can succeed anywhere."""
    return market.batch.jobs * (1 - market.jobs.poison_share)


def attempts(market: Market) -> float:
    """Attempts that the batch takes: what fails or comes back damaged is rendered again.

    Hangs, poison and out of memory cost a baseline nothing, which is to its advantage.
    """
    wasted = market.batch.job_fail_share + market.jobs.corrupt_share
    return jobs_doable(market) / (1 - min(wasted, WASTED_SHARE_MAX))


def fallback_only(night: Night, deadline_s: float) -> Outcome:
    """The fewest containers that make the deadline; all there are when none of that does.

    The fewest is the cheapest, because a container's cold start and scale-down are its only
    overhead; to know it in hindsight is to this baseline's advantage.
    """
    jobs = attempts(night.market)
    fleet = fewest_containers(night, jobs, within_s=deadline_s)
    finish_s = fleet.finish_s(jobs)
    return Outcome(
        Bill(fallback=fleet.usd(jobs)), finish_s, is_met=finish_s <= deadline_s, leases=0, lost=0
    )


def is_feasible(night: Night, deadline_s: float) -> bool:
    """Whether the fallback alone, with all its containers at once, would make the deadline."""
    return fallback_only(night, deadline_s).is_met


def fewest_containers(night: Night, jobs: float, *, within_s: float) -> Fleet:
    """The smallest fleet that does ``jobs`` in time; the largest there is when none does.

    A market whose fallback has no containers is given one, so that unfinished work has a price.
    """
    fleet = Fleet(night.market)
    for number in range(max(1, night.market.fallback.max_containers)):
        fleet = fleet.joined_by(night.container_s_per_job(f"container-{number}"))
        if fleet.finish_s(jobs) <= within_s:
            break
    return fleet
