"""What leases cost by our own count, and what the service says that they cost."""

from __future__ import annotations

import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from nightkiln.testing.modal import FakeModal
from tests.adapters.modal_provider.bench import a_bench, a_slot, with_new_containers
from tests.adapters.modal_world import (
    HOUR_S,
    QUICK,
    TERMS,
    a_modal,
    a_provider,
    all_ended,
    deployed,
    lease_id,
    until,
)

RENDER_S, IDLE_S = 0.5, 1  # of the wall


@pytest.mark.nights
async def test_our_count_is_never_below_the_bill(modal: FakeModal, tmp_path: Path) -> None:
    await with_new_containers(modal, render_s=RENDER_S)
    before, began_s = len(modal.billing.spells), time.monotonic()
    async with a_bench(modal, tmp_path, replace(TERMS, scaledown_s=IDLE_S)) as bench:
        for number in range(3):
            await bench.render(number)
        await bench.provider.release([bench.lease.id])
        lasted_s = Decimal(time.monotonic() - began_s)
        used = bench.provider.used(bench.lease.id)
    await until(lambda: all_ended(modal))

    # Without the idle window, which the fake ends as late as this computer is busy; the way of the
    # last result, too, is within the window that we count.
    ours = modal.billing.spells[before:]
    busy_until_s = max(one.ended_s for one in ours if one.phase == "busy")
    until_then = [one for one in ours if one.ended_s <= busy_until_s]
    billed = sum(sum(modal.billing.usd_of(one).values(), Decimal(0)) for one in until_then)
    usd_per_s = bench.lease.offer.usd_per_hour / 3600
    assert used is not None
    counted = Decimal(repr(used.gpu_s)) * usd_per_s
    window_s = IDLE_S + Decimal(TERMS.limits.exit_s)
    assert billed <= counted <= (lasted_s + window_s) * usd_per_s


async def test_a_slot_that_never_had_a_container_cost_nothing(
    modal: FakeModal, tmp_path: Path
) -> None:
    async with a_slot(modal, tmp_path) as (provider, lease):
        await provider.release([lease.id])
        used = provider.used(lease.id)

    assert used is not None
    assert used.gpu_s == 0


@pytest.mark.nights
async def test_the_billing_report_is_shared_out_among_leases(tmp_path: Path) -> None:
    with a_modal() as modal:  # of its own: the whole bill of these hours is theirs
        deployed(modal)
        for number in range(2):
            async with a_bench(modal, tmp_path, number=number) as bench:
                await bench.render(number)
        await until(lambda: all_ended(modal))
        later = a_provider(modal, tmp_path, clock=lambda: time.time() + 2 * HOUR_S)
        async with later as provider:
            charges = await provider.charges(since_s=time.time() - 3 * HOUR_S)

        billed = modal.billing.usd
    assert {one.lease_id for one in charges} == {lease_id(0), lease_id(1)}
    assert abs(sum((one.usd for one in charges), Decimal(0)) - billed) < Decimal("0.0001")


async def test_a_plan_without_a_report_has_no_charges_and_no_error(tmp_path: Path) -> None:
    with a_modal(rules=replace(QUICK, has_report=False)) as modal:
        deployed(modal)
        async with a_provider(modal, tmp_path) as provider:
            assert list(await provider.charges(since_s=time.time() - 3 * HOUR_S)) == []
