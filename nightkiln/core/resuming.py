"""Whether a run that crashed is begun again by itself, and with what; pure.

Once, and never at somebody's expense: what the crashed run was held to, the resumed one is held to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal

from nightkiln.core.model import Usd

CRASHED = "CRASHED"
RESUMES = "resumes:"  # begins the tag of a run that resumes another
CENT, NOTHING = Decimal("0.01"), Usd(0)
MARGIN_S = 30.0  # for clocks that differ, and a living run says so every 30 s
LEFT_S_MIN = 60.0  # before the deadline: less is not worth a start


@dataclass(frozen=True, slots=True)
class Crash:
    """A run that is said to have crashed. Times are epoch seconds."""

    state: str  # the type of its state by now
    tags: Sequence[str]
    at_work: str = ""  # who works on its batch all the same; "" for nobody
    is_nameless: bool = False  # a fresh run without a name, which nobody can resume
    by_s: float | None = None  # its deadline
    budget: Usd | None = None  # that it was asked for with
    agreed: Usd | None = None  # that it was let through with last; None: no gate let it through
    spent: Usd = NOTHING  # of that, at most
    recounted: Usd = NOTHING  # of what is spent: who goes on finds it and counts it himself

    @property
    def may_be_alive(self) -> bool:
        """Whether its batch is at work, so that it may be itself that works on it."""
        return self.state == CRASHED and bool(self.at_work)

    @property
    def held_to(self) -> Usd | None:
        """USD that it was to spend at most: what was agreed to may be less than was asked for."""
        if self.budget is None or self.agreed is None:
            return self.budget
        return min(self.budget, self.agreed)


def objection(crash: Crash, *, now_s: float) -> str | None:
    """Why it is left as it is; None: it is resumed."""
    if crash.state != CRASHED:
        return f"it is {crash.state.capitalize()} by now"
    if any(tag.startswith(RESUMES) for tag in crash.tags):
        return "it was itself resumed after a crash: somebody should see why it crashes"
    if crash.at_work:
        return f"its batch is being worked on by {crash.at_work}"
    if crash.is_nameless:
        return "it was to render everything anew and has no name: begin it again"
    return _spent(crash, now_s)


def is_to_look_again(crash: Crash, *, is_heard: bool, waited_s: float, stale_s: float) -> bool:
    """Whether nobody can tell yet if the batch is at work, or its process has only just died.

    On another computer a claim outlives its process by ``stale_s``; who works on it otherwise still
    does afterwards. ``is_heard``: the run itself has given a sign of life since it crashed.
    """
    return crash.may_be_alive and not is_heard and waited_s < stale_s + MARGIN_S


def _spent(crash: Crash, now_s: float) -> str | None:
    """What of time or money is gone."""
    if crash.by_s is not None and crash.by_s - now_s < LEFT_S_MIN:
        return "its deadline has come"
    if (left := budget_left(crash)) is not None and left <= 0:
        return f"its budget of {crash.held_to} USD is spent"
    return None


def budget_left(crash: Crash) -> Usd | None:
    """USD that the resumed run may spend, in whole cents; None: it had no budget."""
    return _whole_cents(crash.held_to, crash.spent)


def budget_again(crash: Crash) -> Usd | None:
    """USD that the resumed run is begun with, in whole cents; None: it had no budget.

    A night of several controllers counts against its budget all that its open round has spent:
    with that taken off beforehand, it would count twice.
    """
    return _whole_cents(crash.held_to, crash.spent - crash.recounted)


def _whole_cents(whole: Usd | None, spent: Usd) -> Usd | None:
    if whole is None:
        return None
    return max(NOTHING, whole - spent).quantize(CENT, ROUND_DOWN)
