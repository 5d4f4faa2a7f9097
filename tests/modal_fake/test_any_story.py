"""Whatever goes wrong: every call ends, every container ends, every second is accounted for."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from nightkiln.testing.modal import Phase
from tests.modal_fake.yard import Yard, fake_modal, until

CALLS = 40
TRIES_MAX = 10
END_S_MAX = 60.0


@pytest.mark.nights
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_little_of_everything_goes_wrong_and_everything_ends(seed: int) -> None:
    with fake_modal(seed=seed) as yard:
        kiln = yard.kiln(max_containers=6)
        yard.fired(kiln)
        yard.fake.add_faults("default", "preempted%20", "crash_start%20")

        ends = Counter(ended(call) for call in [spawned(yard, kiln) for _ in range(CALLS)])

        assert sum(ends.values()) == CALLS
        assert ends["fired"] > CALLS / 2, ends
        assert all(one.statuses != ("OPEN",) for one in yard.fake.calls)
        yard.fake.lift_faults()
        until(lambda: all(one.phase == Phase.ENDED for one in yard.fake.containers))
        bill = yard.fake.billing
        assert bill.seconds == sum(one.seconds for one in bill.by_gpu.values())
        assert sum(one.runs for one in yard.fake.calls) > CALLS  # some ran again
        assert yard.fake.struck["preempted"] > 0


def spawned(yard: Yard, kiln: Any) -> Any:
    """A call, however often it takes to make it."""
    import modal.exception

    for _ in range(TRIES_MAX):
        try:
            return yard.fire(kiln, seconds=0.03)
        except modal.exception.Error:
            continue
    raise AssertionError("no spawn came through")


def ended(call: Any) -> str:
    """How a call ended, however often it takes to hear of it."""
    import modal.exception

    for _ in range(TRIES_MAX):
        try:
            return "fired" if call.get(timeout=END_S_MAX)["fired"] else ""
        except modal.exception.ServiceError:
            continue  # nobody answered
        except modal.exception.Error as error:
            return type(error).__name__
    raise AssertionError("nobody ever answered")
