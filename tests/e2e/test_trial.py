"""A trial where machines cost money: one at a time, within the budget, and told what it cost."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from nightkiln.core.model import Lease
from nightkiln.demo import demo_catalog
from nightkiln.gate import unquoted
from nightkiln.market_night import picture
from nightkiln.night import Outcome
from nightkiln.observers import JsonLines
from nightkiln.rehearse import Script
from nightkiln.settings import load_settings
from nightkiln.store.store import Store
from nightkiln.testing import virtual_time
from nightkiln.testing.market import shipped_market
from nightkiln.testing.market.providers import SimulatedMarket
from nightkiln.testing.market.stage import Stage
from nightkiln.trial import read_trial
from nightkiln.wiring import Request, chosen_catalog, run_batch

BUDGET = Decimal("0.50")
BEGAN_S = 1_795_255_983.0
ROWS = (0, 7, 15, 23)


class Counting(JsonLines):
    """Knows how many leases there were at once."""

    def __init__(self) -> None:
        super().__init__(io.StringIO())
        self.now, self.most, self.ever = 0, 0, 0

    @asynccontextmanager
    async def lease(self, lease: Lease) -> AsyncIterator[None]:
        del lease
        self.now, self.ever = self.now + 1, self.ever + 1
        self.most = max(self.most, self.now)
        yield
        self.now -= 1


async def trial(store: str, observer: Counting, *, seed: int) -> Outcome:
    loop = asyncio.get_running_loop()
    stage = Stage(epoch_s=BEGAN_S, starts_s=0.0, picture=picture())
    night = Script(shipped_market(), 3600.0).night(seed)
    market = SimulatedMarket(night, stage=stage)
    catalog = chosen_catalog(demo_catalog()).with_rows(ROWS)
    return await run_batch(
        Request(catalog, name="trial", leases_max=1),
        load_settings(store=store, budget=BUDGET),
        observer,
        clock=lambda: BEGAN_S + loop.time(),
        rents_from={market.name: market},
        gate=unquoted,
    )


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 6))]
)
def test_rented_machines_are_tried_one_at_a_time_and_paid_from_the_budget(
    seed: int, tmp_path: Path
) -> None:
    store, observer = str(tmp_path / "store"), Counting()

    outcome = virtual_time.run(trial(store, observer, seed=seed))

    found = read_trial(Store.open(store), "trial")
    assert observer.most == 1, "also where the first did not come up"
    assert outcome.exit_code == 0
    assert [job.row for job in found.jobs] == list(ROWS)
    assert Decimal(0) < found.usd <= outcome.usd <= BUDGET
    assert found.startup_s is not None
    assert found.startup_s > 60, "an image and models had to be fetched"
    assert min(found.seconds) > 1
