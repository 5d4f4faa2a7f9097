"""What every provider promises, promised by Modal: real SDK, fake service, real app."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightkiln.testing.check_provider import CHECKS, Subject, run_check
from nightkiln.testing.modal import FakeModal
from tests.adapters.modal_world import JOB, NEED, a_modal, a_provider, deployed, open_calls

HURRY = 0.2  # of the seconds that the suite lets pass


@pytest.fixture(scope="module")
def modal() -> Iterator[FakeModal]:
    with a_modal() as modal:
        deployed(modal)
        yield modal


async def hurried(seconds: float) -> None:
    await asyncio.sleep(seconds * HURRY)


@pytest.mark.parametrize("name", CHECKS)
async def test_modal_keeps_every_promise(name: str, modal: FakeModal, tmp_path: Path) -> None:
    subject = Subject(
        make=lambda: a_provider(modal, tmp_path), job=JOB, need=NEED, pass_time=hurried
    )

    await run_check(subject, name)

    assert open_calls(modal) == []
