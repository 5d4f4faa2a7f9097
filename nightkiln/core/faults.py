"""Whose fault a failure is, and whether a job gets another try."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from nightkiln.core.model import Fault, Host, Offer

ATTEMPTS_MAX = 3  # failed tries of one job, wherever, whoever was to blame
LOSSES_MAX = 5  # machines lost under one job before the job itself is suspected
POISON_MAX = 2  # healthy machines on which a job fails: then it is the job
OUT_OF_MEMORY = "oom"


@dataclass(frozen=True, slots=True)
class Failure:
    """How one try ended; ``fault`` is None when its machine was lost under it."""

    fault: Fault | None
    kind: str
    error: str


@dataclass(frozen=True, slots=True)
class Tries:
    """What became of a job so far."""

    failures: int = 0
    losses: int = 0
    places: frozenset[Host] = frozenset()  # machines where it failed
    doubted: frozenset[Host] = frozenset()  # ... and might itself have been to blame
    vram_gb_over: float = 0.0  # it needs more than so much GPU memory
    error: str = ""  # of the last failure

    @property
    def is_doubtful(self) -> bool:
        """Whether the job itself may be to blame, and one more machine would tell."""
        return 0 < len(self.doubted) < POISON_MAX

    def after(self, failure: Failure, offer: Offer) -> Tries:
        """One more try is over.

        A lost machine says nothing about the job, and neither does a market that takes a
        machine back, so only real failures count as tries.
        """
        if failure.fault is Fault.MARKET:
            return self
        if failure.fault is None:
            return replace(self, losses=self.losses + 1)
        where = frozenset((offer.host_key,))
        vram = self.vram_gb_over
        if failure.kind == OUT_OF_MEMORY and offer.vram_gb is not None:
            vram = max(vram, offer.vram_gb)
        return replace(
            self,
            failures=self.failures + 1,
            places=self.places | where,
            doubted=self.doubted | where if failure.fault is Fault.UNKNOWN else self.doubted,
            vram_gb_over=vram,
            error=failure.error,
        )

    def allows(self, offer: Offer) -> bool:
        """Whether another try may be there: never twice on one machine."""
        if offer.host_key in self.places:
            return False
        return offer.vram_gb is None or offer.vram_gb > self.vram_gb_over


def verdict(
    tries: Tries, fault: Fault | None, *, is_healthy: Callable[[Host], bool]
) -> Fault | None:
    """The fault with which a job is given up, or None when it gets another try.

    What could be the job's fault or the machine's (``UNKNOWN``) is the job's once it failed on
    two machines that render other jobs well.
    """
    if fault in {Fault.JOB, Fault.OURS}:
        return fault  # it would fail everywhere
    if sum(is_healthy(host) for host in tries.doubted) >= POISON_MAX:
        return Fault.JOB
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
