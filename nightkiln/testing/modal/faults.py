"""Faults of the fake Modal, and which of its calls, starts and runs they strike."""

from __future__ import annotations

from typing import TypeAlias

from nightkiln.testing import fault_plan
from nightkiln.testing.modal.fault_kinds import Play
from nightkiln.testing.modal.fault_table import FAULTS

FaultPlan: TypeAlias = fault_plan.FaultPlan[Play]
SEE = "see 'nightkiln market --with-modal --list-faults'"


def plan_of(seed: str) -> FaultPlan:
    """Nothing goes wrong yet; ``seed``: of what is left to chance."""
    return FaultPlan(FAULTS, f"modal-1/{seed}", SEE, repeats_digits=7)
