"""Two runs on one account and a sweep between them: nobody touches what is not his."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from nightkiln.core.model import LeaseId
from nightkiln.core.reaping import ReapRules
from nightkiln.reap import reap
from nightkiln.testing.samples import write_catalog
from nightkiln.testing.waiting import until
from tests.e2e.rental import Scene, Telling, scene

RULES = ReapRules("main", 900.0)


async def swept(night: Scene) -> tuple[LeaseId, ...]:
    """What a sweep takes away at this moment."""
    providers = {"cloud": Telling(night.service)}
    done = await reap(providers, night.book, RULES, clock=time.time)
    assert done.is_clean
    return tuple(each.lease_id for each in (*done.ended, *done.closed))


@pytest.mark.nights
async def test_a_nightly_runs_an_ad_hoc_run_starts_and_reap_fires_and_no_lease_is_touched(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path, machines=2, render_s=0.05) as night:
        write_catalog(tmp_path / "catalog", 40)
        nightly = asyncio.create_task(night.run(limit=40, name="nightly", leases_max=1))
        await until(lambda: "connected" in night.service.verbs)
        taken = [await swept(night)]
        adhoc = asyncio.create_task(night.run(limit=40, name="adhoc", leases_max=1))
        await until(lambda: len(night.service.rented) == 2)
        taken.append(await swept(night))
        await until(lambda: night.service.verbs.count("connected") == 2)
        taken.append(await swept(night))
        before = list(night.service.releases)

        outcomes = await asyncio.gather(nightly, adhoc)

    assert taken == [(), (), ()]
    assert before == []
    assert [(outcome.exit_code, outcome.done) for outcome in outcomes] == [(0, 40), (0, 40)]
    assert sorted(night.service.rents) == ["adhoc-1-lease-000", "nightly-1-lease-000"]
    assert night.service.rented == {}
    assert night.ask("select count(*) from leases where reason != 'no work left'") == [(0,)]


async def test_a_private_catalog_is_rendered_where_nobody_looks_however_dear_that_is(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path, machines=2) as night:
        write_catalog(tmp_path / "catalog", 6, private=True)
        stranger, house = night.service.urls
        night.service.trust = {stranger: "verified", house: "datacenter"}

        outcome = await night.run()

    assert outcome.done == 6
    assert night.ask("select distinct ref from leases") == [(house,)]
