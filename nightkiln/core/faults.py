"""Whose fault a failure is, and whether a job gets another try."""

from __future__ import annotations

from dataclasses import dataclass

from nightkiln.core.model import Fault

ATTEMPTS_MAX = 3  # failed tries of one job, wherever
LOSSES_MAX = 5  # machines lost under one job before the job itself is suspected


@dataclass(frozen=True, slots=True)
class Tries:
    """What became of a job so far."""

    failures: int = 0
    losses: int = 0
    places: frozenset[str] = frozenset()  # refs of the offers where it failed

    def after(self, fault: Fault | None, *, where: str) -> Tries:
        """One more try is over; ``fault`` is None when its machine was lost under it.

        A lost machine says nothing about the job, and neither does a market that takes a
        machine back, so only real failures count as tries.
        """
        if fault is Fault.MARKET:
            return self
        if fault is None:
            return Tries(self.failures, self.losses + 1, self.places)
        return Tries(self.failures + 1, self.losses, self.places | {where})


def verdict(tries: Tries, fault: Fault | None) -> Fault | None:
    """The fault with which a job is given up, or None when it gets another try."""
    if fault in {Fault.JOB, Fault.OURS}:
        return fault  # it would fail everywhere
    if tries.failures >= ATTEMPTS_MAX:
        return fault if fault is not None else Fault.UNKNOWN
    if tries.losses >= LOSSES_MAX:
        return Fault.UNKNOWN
    return None


def fault_of_exception(exception_type: str, message: str) -> tuple[Fault, str]:
    """Whose fault an exception inside a ComfyUI node is, and its short stable kind.

    Exception types as seen from ComfyUI 0.3.75: out of memory is ``torch.OutOfMemoryError`` and
    a full disk ``OSError`` with errno 28; a node that raises anything else may do so because of
    the job or of the machine, which only another machine can tell.
    """
    if "OutOfMemoryError" in exception_type or "out of memory" in message.lower():
        return Fault.MACHINE, "oom"
    if "No space left on device" in message:
        return Fault.MACHINE, "disk_full"
    if "outside the output folder" in message:
        return Fault.JOB, "rejected"
    if "CUDA error" in message or "device-side assert" in message:
        return Fault.MACHINE, "cuda"
    return Fault.UNKNOWN, "exception"


def fault_of_rejection(node_error_types: frozenset[str], error_type: str) -> tuple[Fault, str]:
    """Whose fault a graph refused by ``POST /prompt`` is (HTTP 400, or 200 with node errors).

    A value that is not in a list (a model file) and an unknown node can be right on another
    worker; everything else is wrong everywhere.
    """
    if error_type == "invalid_prompt" or "value_not_in_list" in node_error_types:
        return Fault.MACHINE, "unfit"
    return Fault.JOB, "rejected"
