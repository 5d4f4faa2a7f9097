"""What every provider promises, promised by Vast.ai: real SDK, simulated market, real SSH."""

from __future__ import annotations

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
from tests.adapters.vast_world import HASTY, NEED, TERMS

JOB = BoundJob(JobId("0" * 64), text_to_image())
PATIENT = replace(HASTY, offline_s=10.0, stopping_s=5.0)


@pytest.mark.parametrize("name", CHECKS)
async def test_vast_keeps_every_promise(name: str, tmp_path: Path) -> None:
    rules = Rules(speed=100.0, limits_scale=0.0)
    async with (
        SshBodies(tmp_path / "machines") as bodies,
        VastMarket(quiet_night(), rules=rules, bodies=bodies) as market,
    ):
        terms = replace(TERMS, url=market.url, limits=PATIENT)
        subject = Subject(
            make=lambda: VastProvider(market.key, terms, state=tmp_path / "state", arrival=ARRIVAL),
            job=JOB,
            need=NEED,
        )

        await run_check(subject, name)

        assert not [one for one in market.machines() if one["is_billed"]]
