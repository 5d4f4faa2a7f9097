"""A Modal on loopback, spoken to by the real SDK: the service's calls, containers and bills.

``service`` puts the control plane together: ``apps`` and ``directory`` know what is deployed,
``calling`` what was called; ``pools`` run containers, whose processes are forked by ``zygote`` and
run the SDK's own entry point; ``wire`` is gRPC, ``front`` who may ask and what goes wrong.
"""

from __future__ import annotations

from nightkiln.testing.modal.billing import Billing, GpuBill, Phase
from nightkiln.testing.modal.fault_table import FAULTS
from nightkiln.testing.modal.rules import TOKEN, Comfy, Rules
from nightkiln.testing.modal.server import FakeModal
from nightkiln.testing.modal.stand_ins import StandIns
from nightkiln.testing.modal.views import CallSeen, ContainerSeen, Deployed, FunctionSeen

__all__ = [
    "FAULTS",
    "TOKEN",
    "Billing",
    "CallSeen",
    "Comfy",
    "ContainerSeen",
    "Deployed",
    "FakeModal",
    "FunctionSeen",
    "GpuBill",
    "Phase",
    "Rules",
    "StandIns",
]
