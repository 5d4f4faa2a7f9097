"""One fake Modal with the app deployed, for every test of the provider."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nightkiln.testing.modal import FakeModal
from tests.adapters.modal_provider.bench import BEHIND
from tests.adapters.modal_world import QUICK, SPEED, deployed
from tests.modal_fake.yard import talking_to


@pytest.fixture(scope="session")
def served() -> Iterator[FakeModal]:
    """Lives as long as the process, in which other folders' tests run: only seen where in use."""
    with FakeModal(speed=SPEED, rules=QUICK, comfy=BEHIND) as modal:
        with talking_to(modal):
            deployed(modal)
        yield modal


@pytest.fixture
def modal(served: FakeModal) -> Iterator[FakeModal]:
    """Without what the test before has made to go wrong."""
    with talking_to(served):
        yield served
    served.lift_faults()
    BEHIND.from_now_on()
