"""One fake Modal with the app deployed, for every test of the provider."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nightkiln.testing.modal import FakeModal
from tests.adapters.modal_provider.bench import BEHIND
from tests.adapters.modal_world import a_modal, deployed


@pytest.fixture(scope="package")
def served() -> Iterator[FakeModal]:
    with a_modal(behind=BEHIND) as modal:
        deployed(modal)
        yield modal


@pytest.fixture
def modal(served: FakeModal) -> Iterator[FakeModal]:
    """Without what the test before has made to go wrong."""
    yield served
    served.lift_faults()
    BEHIND.from_now_on()
