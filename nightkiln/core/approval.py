"""Whether somebody is asked before a night spends money, how long, and what the answer means.

A quote whose p90 is small needs nobody. A dearer one waits for a word: yes, perhaps for less money
than the batch may have; no; or none in time, which is a no unless it was agreed beforehand that
then the part is rendered that needs no word.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from nightkiln.core.model import Usd

WAIT_SHARE_MAX = 0.5  # of the time until the deadline: a yes at the last minute buys nothing
LEFT_S_MIN = 60.0  # until the deadline: with less no machine would even start
NOTHING = Usd(0)


class Unanswered(StrEnum):
    """What becomes of a night nobody speaks for in time."""

    REFUSE = "refuse"
    PART = "part"  # what fits the money that nobody has to be asked for is rendered


@dataclass(frozen=True, slots=True)
class Rules:
    """What was agreed before the night."""

    above: Usd  # a p90 above this is asked about; 0: nothing is
    within_s: float  # for the answer
    unanswered: Unanswered = Unanswered.REFUSE


@dataclass(frozen=True, slots=True)
class Answer:
    """What somebody said."""

    is_yes: bool
    cap: Usd | None = None  # for this run; None: its whole budget


class Word(StrEnum):
    """How a night came by its money, or did not."""

    APPROVED = "approved"
    PART = "part"
    REFUSED = "refused"
    UNANSWERED = "unanswered"


@dataclass(frozen=True, slots=True)
class Decision:
    """What may be spent by this run; nothing where it may not begin."""

    word: Word
    budget: Usd = NOTHING

    @property
    def may_spend(self) -> bool:
        return self.budget > NOTHING


def must_ask(rules: Rules, *, usd_p90: float) -> bool:
    """Whether a quote is so dear that somebody has to agree to it."""
    return rules.above > NOTHING and usd_p90 > float(rules.above)


def wait_s(rules: Rules, *, left_s: float | None) -> float:
    """How long to wait for the answer; ``left_s``: until the deadline, None: there is none."""
    if left_s is None:
        return rules.within_s
    return max(0.0, min(rules.within_s, WAIT_SHARE_MAX * left_s))


def decision(rules: Rules, answer: Answer | None, *, budget: Usd) -> Decision:
    """What an answer means; None: nobody gave one in time. No answer ever raises the budget."""
    if answer is None and rules.unanswered is Unanswered.PART:
        return Decision(Word.PART, min(rules.above, budget))
    if answer is None:
        return Decision(Word.UNANSWERED)
    cap = budget if answer.cap is None else min(answer.cap, budget)
    if not answer.is_yes or cap <= NOTHING:
        return Decision(Word.REFUSED)
    return Decision(Word.APPROVED, cap)


def is_too_late(left_s: float | None, *, may_be_late: bool) -> bool:
    """Whether an answer came when there is no time left to use it."""
    return left_s is not None and left_s < LEFT_S_MIN and not may_be_late


def falls_short(cap: Usd, *, p90_asked: float, p90_now: float) -> bool:
    """Whether what was agreed to has become too little while the answer was waited for.

    Who agreed to less than the quote asked for has agreed to a part, and gets one.
    """
    return p90_asked <= float(cap) < p90_now
