"""Which providers there are: ours, and those that another package brings."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightkiln.places import that_bill
from nightkiln.settings import load_settings
from nightkiln.sweeping import can_sweep

PACKAGE = """
from nightkiln.providers.local import LocalProvider

class Mine(LocalProvider):
    name, bills, can_list = "mine", True, True
    def __init__(self):
        super().__init__([])
    async def billed(self):
        return []

class Mute(LocalProvider):
    name, bills = "mute", True
    def __init__(self):
        super().__init__([])
"""
ENTRIES = """
[nightkiln.providers]
mine = nightkiln_mine:Mine
mute = nightkiln_mine:Mute
"""


@pytest.fixture
def plugged_in(tmp_path: Path) -> Iterator[None]:
    """A package of somebody's, installed."""
    info = tmp_path / "nightkiln_mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nightkiln-mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    (tmp_path / "nightkiln_mine.py").write_text(PACKAGE)
    sys.path.append(str(tmp_path))
    yield
    sys.path.remove(str(tmp_path))
    sys.modules.pop("nightkiln_mine", None)


@pytest.mark.usefixtures("plugged_in")
def test_a_sweep_asks_the_plug_ins_that_are_named_and_can_say_what_they_bill() -> None:
    named = load_settings(providers=("local", "mute", "mine"))

    assert list(that_bill(named)) == ["mine"]
    assert can_sweep(named)


@pytest.mark.usefixtures("plugged_in")
def test_a_plug_in_that_nobody_named_is_not_even_loaded() -> None:
    settings = load_settings()

    assert that_bill(settings) == {}
    assert not can_sweep(settings)
    assert "nightkiln_mine" not in sys.modules
