"""A Chromium for tests of pages: found on this machine, driven by Playwright."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.ui.chromium import VARIABLE, found_chromium
from tests.ui.control import Control, control_room
from tests.ui.looked import Looked, looking

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless; the one that NIGHTKILN_CHROMIUM names, else the one on the path."""
    from playwright.sync_api import sync_playwright

    found = found_chromium()
    if found is None:
        pytest.fail(f"no Chromium: python -m tests.ui.chromium installs it; or {VARIABLE}")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found)
        yield started
        started.close()


@pytest.fixture(scope="session")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    """One room for all pages: it takes half a minute to open."""
    with control_room(tmp_path_factory.mktemp("control")) as opened:
        yield opened


@pytest.fixture
def looked(browser: Browser, control: Control) -> Iterator[Looked]:
    """A page of the room; whatever it is told off for fails the test."""
    with looking(browser, control.url) as opened:
        yield opened
    assert opened.troubles == []
