"""How many jobs leases will finish in time: a mean and a variance, which add up over a fleet."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from nightkiln.core.learning import Outlook
from nightkiln.core.state import Held, Phase
from nightkiln.core.terms import Rules

GAP_SHARE_MAX = 0.8  # losses never eat more of a lease's time in the plan than this
OVERDUE_SHARE = 0.15  # of its start-up: what a start that is over its mean still takes


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


def reach_of_offer(outlook: Outlook, left_s: float, rules: Rules) -> Reach:
    """What an offer would add if it were rented now."""
    return _reach(outlook, left_s, outlook.startup_s, rules)


def reach_of_lease(
    held: Held, outlook: Outlook, now_s: float, left_s: float, rules: Rules
) -> Reach:
    """What a lease will add from now on."""
    if held.phase is Phase.READY and not held.is_bad:
        return _reach(outlook, left_s, 0.0, rules)
    if held.phase is Phase.ASKED:
        spent_s = now_s - held.asked_s
        to_go_s = max(outlook.startup_s - spent_s, OVERDUE_SHARE * outlook.startup_s)
        return _reach(outlook, left_s, to_go_s, rules)
    if held.phase is Phase.DRAINING:
        return Reach(float(len(held.running)))
    return Reach()


def _reach(outlook: Outlook, left_s: float, startup_s: float, rules: Rules) -> Reach:
    run_s = left_s - startup_s
    if run_s <= 0:
        return Reach()
    per_s = 1 / outlook.seconds_per_job
    gaps = outlook.lost_per_s * run_s  # a lost machine is replaced: a gap, not the end
    gap_s = min(rules.gap_s, run_s)
    full = run_s * per_s
    up = full - min(gaps * gap_s * per_s, GAP_SHARE_MAX * full)
    variance = (up * outlook.seconds_sd) ** 2 + gaps * (gap_s * per_s) ** 2
    if startup_s > 0:
        comes = 1 - outlook.boot_fails
        variance += comes * outlook.boot_fails * up**2
        variance += (outlook.startup_sd * startup_s * per_s) ** 2
        up *= comes
    return Reach(up, variance)
