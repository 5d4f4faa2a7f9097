"""How many jobs leases will finish in time: a mean and a variance, which add up over a fleet."""

from __future__ import annotations

from dataclasses import dataclass
from math import erfc, log, sqrt

from nightkiln.core.learning import Outlook
from nightkiln.core.state import Held, Phase
from nightkiln.core.terms import Rules

GAP_SHARE_MAX = 0.8  # losses never eat more of a lease's time in the plan than this
WARM_START_S = 60.0  # to connect to a machine that was up before
OVERDUE_SHARE = 0.3  # of the time it has taken: what a start that is over its mean still takes
TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Reach:
    """Jobs until the plan's end; independent reaches add."""

    mean: float = 0.0
    variance: float = 0.0

    def __add__(self, other: Reach) -> Reach:
        return Reach(self.mean + other.mean, self.variance + other.variance)

    def __sub__(self, other: Reach) -> Reach:
        return Reach(self.mean - other.mean, max(0.0, self.variance - other.variance))

    def sure(self, z: float) -> float:
        """Jobs that are done with the confidence of ``z`` standard deviations."""
        return max(0.0, self.mean - z * sqrt(self.variance))


@dataclass(frozen=True, slots=True)
class Plan:
    """What reaches are counted for."""

    now_s: float
    left_s: float  # until the plan's end
    gap_s: float  # of a lost machine's time, until another does its work


def gap_s(rules: Rules, *, on_offer: int, ours: int) -> float:
    """How much of its time a lost machine costs until it is replaced.

    Where machines are plenty the next one is a few minutes away; where few are on offer it has
    to be waited for, and what it would have done falls to the fallback.
    """
    plenty = min(1.0, on_offer / max(1, ours))
    return rules.gap_s_max - plenty * (rules.gap_s_max - rules.gap_s)


def reach_of_lease(held: Held, outlook: Outlook, plan: Plan) -> Reach:
    """What a lease will add from now on."""
    if held.phase is Phase.READY and not held.is_bad:
        return _reach(outlook, plan.left_s, plan.gap_s)
    if held.phase is Phase.ASKED and not held.is_bad:
        spent_s = plan.now_s - held.asked_s
        startup_s = min(WARM_START_S, outlook.startup_s) if held.is_adopted else outlook.startup_s
        to_go_s = max(startup_s - spent_s, OVERDUE_SHARE * spent_s)
        limit_s = max(held.offer.startup_s - spent_s, 0.0)
        start = Start(to_go_s, limit_s, fails_by_now(outlook, spent_s))
        up = _reach(outlook, plan.left_s - to_go_s, plan.gap_s)
        return _starting(up, outlook, start, plan.gap_s)
    if held.phase is Phase.DRAINING:
        return Reach(float(len(held.running)))
    return Reach()


@dataclass(frozen=True, slots=True)
class Start:
    """A start that is not over yet."""

    to_go_s: float  # until it is up, if all goes well
    limit_s: float  # until it is given up
    fails: float  # the chance of that


def _starting(up: Reach, outlook: Outlook, start: Start, gap_s: float) -> Reach:
    """What a machine that is still starting adds; one that fails is replaced: a gap, again."""
    per_s = 1 / outlook.seconds_per_job
    gap = min((start.limit_s + gap_s) * per_s, up.mean)
    wobble = min(outlook.startup_sd * start.to_go_s * per_s, up.mean)
    variance = up.variance + start.fails * (1 - start.fails) * gap**2 + wobble**2
    return Reach(up.mean - start.fails * gap, variance)


def fails_by_now(outlook: Outlook, spent_s: float) -> float:
    """The chance that a start which is not over after ``spent_s`` never will be (Bayes).

    Those that come up take a log-normal time; the longer one waits, the fewer are left.
    """
    if spent_s <= 0 or outlook.startup_s <= 0:
        return outlook.boot_fails
    late = log(spent_s / outlook.startup_s) / (outlook.startup_sd * sqrt(2))
    still_coming = (1 - outlook.boot_fails) * 0.5 * erfc(late)
    return min(outlook.boot_fails / (outlook.boot_fails + still_coming + TINY), 1.0)


def _reach(outlook: Outlook, run_s: float, gap_s: float) -> Reach:
    """What a machine that is up does in ``run_s``; a loss is a gap, for it is replaced."""
    if run_s <= 0:
        return Reach()
    per_s = 1 / outlook.seconds_per_job
    losses, full = outlook.lost_per_s * run_s, run_s * per_s
    gap = min(gap_s, run_s) * per_s
    mean = full - min(losses * gap, GAP_SHARE_MAX * full)
    return Reach(mean, (mean * outlook.seconds_sd) ** 2 + losses * gap**2)
