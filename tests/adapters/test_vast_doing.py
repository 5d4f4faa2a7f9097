"""What people are told of a machine that is coming up."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from nightkiln.core.model import Lease, LeaseId, Need, Offer
from nightkiln.providers.vast.doing import doing, told
from nightkiln.providers.vast.held import Held
from nightkiln.providers.vast.rows import Row

HALF = {"bytes_done": 3_450_000_000, "bytes_total": 6_900_000_000, "path": "x"}


def held(*, is_listed: bool, running_s: float | None) -> Held:
    lease = Lease(LeaseId("night-1-lease-000"), Offer("vast", "1"), "17")
    row = Row(1, "label") if is_listed else None
    return Held(lease, Need(), "label", 0.0, row=row, running_s=running_s)


def test_before_anybody_is_connected_the_listing_tells() -> None:
    assert doing(held(is_listed=False, running_s=None)) == "being created"
    assert doing(held(is_listed=True, running_s=None)) == "loading its image"
    assert doing(held(is_listed=True, running_s=1.0)) == "starting"


@pytest.mark.parametrize(
    ("stage", "facts", "words"),
    [
        ("connection", {"state": "refused"}, "being reached by SSH (refused)"),
        ("gate", {"gpu": "RTX 4090"}, "being checked"),
        ("provisioning", HALF, "fetching models and nodes: 3.5 of 6.9 GB"),
        ("pushing", HALF, "being sent x: 3.5 of 6.9 GB"),
        ("provisioning", {"bytes_done": "many", "bytes_total": None}, "fetching models and nodes"),
        ("a stage of later", {}, "starting"),
    ],
)
def test_then_the_visit_tells(stage: str, facts: Mapping[str, object], words: str) -> None:
    lease = held(is_listed=True, running_s=1.0)

    told(lease, stage, facts)

    assert doing(lease).startswith(words)
