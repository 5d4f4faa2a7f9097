"""What of a month's money is left, and what a night may have of it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from typing import Any

from nightkiln.core.errors import Problem
from nightkiln.core.model import Usd

CENT, NOTHING = Decimal("0.01"), Usd(0)
WHERE = "budget_per_month"
FIX = (
    "render fewer jobs, wait for the next month, or raise budget_per_month in nightkiln.toml "
    "(NIGHTKILN_BUDGET_PER_MONTH)"
)


@dataclass(frozen=True, slots=True)
class Month:
    """The money of one calendar month."""

    name: str  # 2026-11
    limit: Usd
    spent: Usd  # by all batches of the store; billed where that is known
    held: Usd = NOTHING  # that others at work may still spend

    @property
    def left(self) -> Usd:
        """For a run that begins now, in whole cents."""
        return max(NOTHING, self.limit - self.spent - self.held).quantize(CENT, ROUND_DOWN)

    def told(self) -> str:
        """In a line, for people."""
        held = f" and {self.held:.2f} are kept for others at work" if self.held else ""
        return (
            f"{self.spent:.2f} of {self.limit:.2f} USD are spent in {self.name}{held}; "
            f"{self.left:.2f} USD are left"
        )

    def as_object(self) -> dict[str, Any]:
        """For programs."""
        return {
            "month": self.name,
            "budget_per_month_usd": float(self.limit),
            "spent_usd": float(self.spent),
            "held_usd": float(self.held),
            "left_usd": float(self.left),
        }

    def objection(self, *, usd_p90: float | None = None) -> Problem | None:
        """Why a night must not begin: nothing is left, or less than its quote needs.

        ``usd_p90``: of the quote; None: nothing was quoted.
        """
        if self.left <= NOTHING:
            return Problem(f"{WHERE} {self.limit}", self.told(), FIX)
        if usd_p90 is None or usd_p90 <= float(self.left):
            return None
        what = (
            f"{self.told()}, less than {usd_p90:.2f} USD, what nine nights out of ten keep within"
        )
        return Problem(f"{WHERE} {self.limit}", f"{what} (the p90)", FIX)


def is_about_month(problem: Problem) -> bool:
    """Whether a night was refused for the month's money."""
    return problem.where.startswith(WHERE)
