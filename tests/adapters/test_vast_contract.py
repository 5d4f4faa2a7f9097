"""What every provider promises, promised by Vast.ai: real SDK, simulated market, real SSH."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest

from nightkiln.core.model import BoundJob, JobId
from nightkiln.providers.vast import VastProvider
from nightkiln.testing.check_provider import CHECKS, Subject, run_check
from nightkiln.testing.samples import text_to_image
from nightkiln.testing.vast_market import Rules, VastMarket
from nightkiln.testing.vast_market.controller import ARRIVAL
from nightkiln.testing.vast_market.samples import quiet_night
from nightkiln.testing.vast_market.ssh_body import SshBodies
from tests.adapters.vast_world import HASTY, NEED, TERMS, alive

JOB = BoundJob(JobId("0" * 64), text_to_image())
RULES = Rules(speed=100.0, limits_scale=0.0)
PATIENT = replace(HASTY, offline_s=10.0, stopping_s=5.0)
STARTS_S_MAX = 30.0


class Apart:
    """A market in a thread of its own: what it is doing is no task of the provider's."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._opened = folder, Future[tuple[VastMarket, asyncio.Event]]()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> VastMarket:
        self._thread.start()
        return self._opened.result(STARTS_S_MAX)[0]

    def __exit__(self, *_: object) -> None:
        closing = self._opened.result(0)[1]
        self._loop.call_soon_threadsafe(closing.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, closing = asyncio.get_running_loop(), asyncio.Event()
        async with (
            SshBodies(self._folder) as bodies,
            VastMarket(quiet_night(), rules=RULES, bodies=bodies) as market,
        ):
            self._opened.set_result((market, closing))
            await closing.wait()


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VastMarket]:
    with Apart(tmp_path_factory.mktemp("machines")) as market:
        yield market


@pytest.mark.parametrize("name", CHECKS)
async def test_vast_keeps_every_promise(name: str, market: VastMarket, tmp_path: Path) -> None:
    terms = replace(TERMS, url=market.url, limits=PATIENT)
    subject = Subject(
        make=lambda: VastProvider(market.key, terms, state=tmp_path, arrival=ARRIVAL),
        job=JOB,
        need=NEED,
    )

    await run_check(subject, name)

    assert alive(market) == []
