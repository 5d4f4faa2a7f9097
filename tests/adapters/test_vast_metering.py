"""How long a GPU was billed, told from listings."""

from __future__ import annotations

import pytest

from nightkiln.providers.vast.metering import Meter

TICK_S = 10.0


def metered(*listings: bool, since_s: float = 0.0) -> Meter:
    """A machine that was listed every ten seconds, running or not."""
    meter = Meter()
    for number, is_running in enumerate(listings, 1):
        meter.see(number * TICK_S, is_running=is_running, since_s=since_s)
    return meter


def test_a_machine_that_was_never_listed_says_nothing() -> None:
    assert Meter().until(100.0) is None


@pytest.mark.parametrize(
    ("listings", "gpu_s"),
    [
        ((False, False, False), 0.0),  # it only loads
        ((False, True, True), 15.0 + 5.0),  # began between two listings, ended 5 s after the last
        ((False, True, False), 10.0),  # was taken away between two others
        ((True, True), 20.0 + 5.0),  # ran before we came
        ((False, True, False, True), 15.0 + 5.0),  # went, and came back
    ],
)
def test_a_gpu_is_billed_while_it_runs(listings: tuple[bool, ...], gpu_s: float) -> None:
    assert metered(*listings).until(len(listings) * TICK_S + 5.0) == pytest.approx(gpu_s)


def test_an_order_to_end_it_that_was_granted_before_the_last_listing_adds_nothing() -> None:
    assert metered(False, True).until(15.0) == pytest.approx(5.0)
