"""Nights at the simulated market: real SDK, real SSH, a real controller."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from nightkiln.night import ALL_DONE
from nightkiln.store.store import Store
from nightkiln.testing.vast_market import night_of
from nightkiln.testing.vast_market.rules import Rules
from nightkiln.testing.vast_market.samples import quiet_night
from nightkiln.testing.vast_market.scene import HURRY, VastScene

MACHINES = 6
# So slow a story, and so near a deadline, that fewer machines would not do.
SPEED, BY = 20.0, "30s"
LEDGER_OFF_MAX = Decimal("0.01")
SEEN_WITHIN_S = Decimal(3)  # of its happening: seconds matter where machines live for half a minute


async def test_a_quiet_night_is_done_and_given_back(tmp_path: Path) -> None:
    async with VastScene(tmp_path) as scene:
        outcome = await scene.run()

        assert outcome.exit_code == ALL_DONE, scene.told()
        assert await scene.broken() == []
        assert '"doing": "loading its image"' in scene.said.getvalue()
        assert '"doing": "being checked"' in scene.said.getvalue()
        assert list((tmp_path / "state" / "keys").iterdir()) == [], "it opens nothing any more"


def told_by_store(folder: Path) -> tuple[Decimal, Decimal, Decimal]:
    """What all leases were billed; what was counted while they ran; all their prices a second."""
    with Store.open(str(folder)).connect() as connection:
        found = connection.execute(
            "SELECT sum(usd_billed), sum(usd_estimated), sum(usd_per_hour) / 3600 FROM leases"
        ).fetchone()
    assert found is not None
    billed, estimated, per_s = (Decimal(str(value)) for value in found)
    return billed, estimated, per_s


@pytest.mark.nights
@pytest.mark.parametrize(
    "faults",
    [
        pytest.param((), id="quiet", marks=pytest.mark.long),
        pytest.param(("default",), id="default faults"),
    ],
)
async def test_two_hundred_jobs_on_six_machines_are_done_and_accounted_for(
    faults: tuple[str, ...], tmp_path: Path
) -> None:
    # Bills here are of hundredths of a cent; the service's rounding would hide all the rest.
    rules = Rules(speed=SPEED, limits_scale=HURRY, faults=faults, charge_decimals=6)
    night = night_of(1) if faults else quiet_night()
    async with VastScene(
        tmp_path, jobs=200, leases_max=MACHINES, rules=rules, night=night, by=BY
    ) as scene:
        outcome = await scene.run()

        assert outcome.exit_code == ALL_DONE, scene.told()
        assert await scene.broken() == []
        assert len(scene.market.ledger()) >= MACHINES
        assert bool(scene.market.plan.struck) == bool(faults)
        spent = scene.market.truth().spent()
        billed, estimated, per_s = told_by_store(tmp_path / "store")
        assert abs(billed - spent) <= LEDGER_OFF_MAX * spent
        assert abs(estimated - spent) <= LEDGER_OFF_MAX * spent + SEEN_WITHIN_S * per_s
