"""A desk for every test that wants one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nightkiln.testing.vast_market import Rules
from nightkiln.testing.vast_market.beside import beside
from nightkiln.testing.vast_market.samples import quiet_night
from tests.cli.desk import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """One user's computer, and a market that is in a hurry."""
    with beside(quiet_night(), Rules(speed=200, limits_scale=0)) as market:
        yield Desk(market, tmp_path)
