"""What containers cost, what a second costs, and the report."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.testing.modal import Billing, Phase, Rules
from nightkiln.testing.modal.billing import Meter, Size
from nightkiln.testing.modal.money import RESOLUTIONS, cut
from nightkiln.testing.modal.prices import USD_PER_S, price_name
from tests.modal_fake.yard import Yard, fake_modal

L40S = Size("L40S", cores=2.0, gib=16.0)
NOON_S = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
PHASES = st.sampled_from(list(Phase))
STEPS = st.lists(st.tuples(PHASES, st.floats(0.001, 7200)), max_size=12)


def metered(steps: list[tuple[Phase, float]]) -> tuple[Meter, float]:
    """A meter that has been through these phases, for so many seconds each; and when it is."""
    meter, now_s = Meter("ta-1", "ap-1", L40S, NOON_S), NOON_S
    for phase, seconds in steps:
        meter.turn(phase, now_s)
        now_s += seconds
    return meter, now_s


@given(STEPS)
def test_seconds_are_billed_while_it_starts_works_or_waits_and_never_otherwise(
    steps: list[tuple[Phase, float]],
) -> None:
    meter, now_s = metered(steps)

    bill = Billing(tuple(meter.spells(now_s)), USD_PER_S)

    billed_s = sum(s for phase, s in steps if phase not in {Phase.QUEUED, Phase.ENDED})
    assert float(bill.seconds) == pytest.approx(billed_s, abs=1e-4)


@given(STEPS, st.sampled_from(sorted(RESOLUTIONS)))
def test_cut_into_hours_or_days_nothing_is_lost(
    steps: list[tuple[Phase, float]], resolution: str
) -> None:
    meter, now_s = metered(steps)
    spells = meter.spells(now_s)

    parts = [part for one in spells for part, _ in cut(one, RESOLUTIONS[resolution])]

    whole, parted = Billing(tuple(spells), USD_PER_S), Billing(tuple(parts), USD_PER_S)
    assert float(parted.usd) == pytest.approx(float(whole.usd), abs=1e-8)


def test_gpu_cores_and_memory_are_billed_by_the_second() -> None:
    meter, now_s = metered([(Phase.BUSY, 100.0)])

    bill = Billing(tuple(meter.spells(now_s)), USD_PER_S)

    per_s = Decimal("0.000542") + 2 * Decimal("0.0000131") + 16 * Decimal("0.00000222")
    assert bill.usd == 100 * per_s
    assert bill.by_gpu["L40S"].busy_s == 100


@pytest.mark.parametrize(("asked", "priced"), [("h100!", "H100"), ("A10G", "A10"), ("L4", "L4")])
def test_a_gpu_is_priced_by_its_plain_name(asked: str, priced: str) -> None:
    assert price_name(asked) == priced


def workspace(yard: Yard) -> Any:
    import modal

    return modal.Workspace.from_context(client=yard.client)


def test_the_sdk_reads_rates_and_the_report() -> None:
    with fake_modal() as yard:
        yard.fired(yard.kiln(name := yard.deploy()))
        usd = yard.fake.billing.usd
        rates = workspace(yard).billing.rates()
        yesterday = datetime.now(UTC) - timedelta(days=1)
        past = workspace(yard).billing.report(start=yesterday, resolution="h")
        soon = datetime.now(UTC) + timedelta(hours=1)
        rows = workspace(yard).billing.report(start=yesterday, end=soon, resolution="h")

        assert rates["L40S"] == Decimal("0.000542")
        assert past == []  # the hour that is under way is not in it
        assert sum(row.cost for row in rows) >= usd > 0
        assert {row.description for row in rows} == {name}
        assert {row.tags["purpose"] for row in rows} == {"pots"}


def test_some_plans_have_no_report() -> None:
    import modal.exception

    yesterday = datetime.now(UTC) - timedelta(days=1)
    with (
        fake_modal(rules=Rules(has_report=False)) as yard,
        pytest.raises(modal.exception.PermissionDeniedError, match="plan"),
    ):
        workspace(yard).billing.report(start=yesterday)
