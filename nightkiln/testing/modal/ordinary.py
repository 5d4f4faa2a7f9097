"""The fake as the ordinary market file describes the fallback."""

from __future__ import annotations

from collections.abc import Iterable

from nightkiln.testing.market import shipped_market
from nightkiln.testing.modal.rules import Rules
from nightkiln.testing.modal.server import FakeModal
from nightkiln.testing.modal.stand_ins import StandIns

LIMIT_S_MIN = 5.0  # of the wall: real processes do real work, however fast the story is told
COLD_SPREAD = 0.25  # starts take so much more or less


def ordinary_modal(*, seed: int, speed: float, faults: Iterable[str] = ()) -> FakeModal:
    """A fake with a ComfyUI behind each container; not started yet.

    Raises:
        BadInput: no such fault.
    """
    facts = shipped_market().fallback
    cold_s = (facts.cold_s * (1 - COLD_SPREAD), facts.cold_s * (1 + COLD_SPREAD))
    return FakeModal(
        seed=seed,
        speed=speed,
        faults=faults,
        rules=Rules(cold_s=cold_s, containers_max=facts.max_containers, limit_s_min=LIMIT_S_MIN),
        comfy=StandIns(speed, seconds_per_job=facts.seconds_per_job),
    )
