"""A fake Modal for all tests here, and a small app that is deployed to it under many names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.modal_fake.yard import Yard, a_yard, talking_to


@pytest.fixture(scope="session")
def one_yard() -> Iterator[Yard]:
    """One for the session: the SDK takes a second to import, also where containers come from."""
    with a_yard() as yard:
        yield yard


@pytest.fixture
def yard(one_yard: Yard) -> Iterator[Yard]:
    """Without what the test before has made to go wrong."""
    with talking_to(one_yard.fake):
        yield one_yard
    one_yard.fake.lift_faults()
