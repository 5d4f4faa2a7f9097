"""Faults of the simulated Vast.ai, and which calls they strike."""

from __future__ import annotations

from typing import TypeAlias

from nightkiln.testing import fault_plan
from nightkiln.testing.vast_market.fault_kinds import Play
from nightkiln.testing.vast_market.fault_table import FAULTS

FaultPlan: TypeAlias = fault_plan.FaultPlan[Play]


def plan_of(seed: str) -> FaultPlan:
    """Nothing goes wrong yet; ``seed``: of what is left to chance."""
    return FaultPlan(FAULTS, f"vast-1/{seed}", "see 'nightkiln market --list-faults'")
