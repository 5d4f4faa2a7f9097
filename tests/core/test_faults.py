"""Whose fault a failure is, and what a job's tries add up to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from nightkiln.core.faults import (
    ATTEMPTS_MAX,
    LOSSES_MAX,
    OUT_OF_MEMORY,
    Failure,
    Tries,
    fault_of_exception,
    fault_of_rejection,
    verdict,
)
from nightkiln.core.model import Fault, Host
from tests.core.table import BIG, CHEAP, DEAR, NEAR, machine


def everybody(_: Host) -> bool:
    return True


def nobody(_: Host) -> bool:
    return False


@pytest.mark.parametrize(
    ("exception", "message", "fault", "kind"),
    [
        ("torch.OutOfMemoryError", "", Fault.MACHINE, "oom"),
        ("RuntimeError", "CUDA Out of Memory. Tried to allocate", Fault.MACHINE, "oom"),
        ("OSError", "[Errno 28] No space left on device", Fault.MACHINE, "disk_full"),
        ("Exception", "Saving image outside the output folder", Fault.JOB, "rejected"),
        ("RuntimeError", "CUDA error: an illegal access", Fault.MACHINE, "cuda"),
        ("RuntimeError", "device-side assert triggered", Fault.MACHINE, "cuda"),
        ("ValueError", "anything else", Fault.UNKNOWN, "exception"),
    ],
)
def test_an_exception_tells_whose_fault_it_is(
    exception: str, message: str, fault: Fault, kind: str
) -> None:
    assert fault_of_exception(exception, message) == (fault, kind)


@pytest.mark.parametrize(
    ("nodes", "error", "fault", "kind"),
    [
        ({"value_not_in_list"}, "prompt_outputs_failed_validation", Fault.MACHINE, "unfit"),
        (set(), "invalid_prompt", Fault.MACHINE, "unfit"),
        ({"value_smaller_than_min"}, "prompt_outputs_failed_validation", Fault.JOB, "rejected"),
        (set(), "prompt_no_outputs", Fault.JOB, "rejected"),
    ],
)
def test_a_refused_graph_is_the_jobs_fault_unless_another_worker_may_have_what_it_needs(
    nodes: set[str], error: str, fault: Fault, kind: str
) -> None:
    assert fault_of_rejection(frozenset(nodes), error) == (fault, kind)


def test_what_the_market_does_is_no_try() -> None:
    tries = Tries()

    assert tries.after(Failure(Fault.MARKET, "outbid", ""), CHEAP) is tries


def test_a_lost_machine_is_neither_a_failure_nor_a_place() -> None:
    tries = Tries().after(Failure(None, "lost", "gone"), CHEAP)

    assert (tries.failures, tries.losses, tries.places) == (0, 1, frozenset())
    assert tries.allows(CHEAP)


def test_a_failed_job_may_go_anywhere_but_there() -> None:
    tries = Tries().after(Failure(Fault.MACHINE, "cuda", "CUDA error"), CHEAP)

    assert not tries.allows(CHEAP)
    assert tries.allows(DEAR)
    assert tries.doubted == frozenset()
    assert tries.error == "CUDA error"


def test_only_what_is_nobodys_fault_for_sure_puts_a_machine_in_doubt() -> None:
    tries = Tries().after(Failure(Fault.UNKNOWN, "exception", "boom"), CHEAP)
    tries = tries.after(Failure(Fault.MACHINE, "cuda", "boom"), DEAR)

    assert tries.doubted == {CHEAP.host_key}


def test_out_of_memory_asks_for_more_of_it_and_remembers_the_most() -> None:
    oom = Failure(Fault.MACHINE, OUT_OF_MEMORY, "out of memory")
    tries = Tries().after(oom, machine("48", vram_gb=48.0)).after(oom, CHEAP)

    assert not tries.allows(machine("other", vram_gb=48.0))
    assert tries.allows(BIG)
    assert tries.allows(NEAR)  # nobody says how much it has
    assert Tries().after(oom, NEAR).vram_gb_over == 0.0
    assert Tries().after(Failure(Fault.MACHINE, "cuda", ""), CHEAP).allows(DEAR)


@pytest.mark.parametrize(
    ("tries", "fault", "is_healthy", "expected"),
    [
        (Tries(failures=1), Fault.JOB, nobody, Fault.JOB),
        (Tries(failures=1), Fault.OURS, nobody, Fault.OURS),
        (Tries(failures=1), Fault.UNKNOWN, everybody, None),
        (Tries(failures=ATTEMPTS_MAX - 1), Fault.MACHINE, everybody, None),
        (Tries(failures=ATTEMPTS_MAX), Fault.MACHINE, everybody, Fault.MACHINE),
        (Tries(failures=ATTEMPTS_MAX), Fault.UNKNOWN, nobody, Fault.UNKNOWN),
        (Tries(failures=ATTEMPTS_MAX), None, nobody, Fault.UNKNOWN),
        (Tries(losses=LOSSES_MAX - 1), None, everybody, None),
        (Tries(losses=LOSSES_MAX), None, everybody, Fault.UNKNOWN),
    ],
)
def test_a_job_is_given_up_for_a_reason(
    tries: Tries, fault: Fault | None, is_healthy: Callable[[Host], bool], expected: Fault | None
) -> None:
    assert verdict(tries, fault, is_healthy=is_healthy) == expected


def test_two_healthy_machines_convict_a_job_and_two_unproven_ones_do_not() -> None:
    doubted = frozenset((CHEAP.host_key, DEAR.host_key))
    tries = replace(Tries(failures=2), doubted=doubted)

    assert verdict(tries, Fault.UNKNOWN, is_healthy=everybody) is Fault.JOB
    assert verdict(tries, Fault.UNKNOWN, is_healthy=nobody) is None
    assert verdict(tries, Fault.UNKNOWN, is_healthy=CHEAP.host_key.__eq__) is None
