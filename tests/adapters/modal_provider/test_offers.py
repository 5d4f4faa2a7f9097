"""What slots there are, at what price, and how each is had once."""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path

from nightkiln.core.model import Need
from nightkiln.providers.modal.prices import dated
from nightkiln.testing.modal import FakeModal
from tests.adapters.modal_provider.bench import a_slot
from tests.adapters.modal_world import HOUR_S, NEED, TERMS, a_provider, lease_id


async def test_every_kind_of_gpu_has_its_slots_at_the_services_own_rates(
    modal: FakeModal, tmp_path: Path
) -> None:
    async with a_provider(modal, tmp_path) as provider:
        offers = await provider.offers(NEED, limit=100)

        assert (await provider.todays_prices()).basis.startswith("rates of ")
    per_gpu = [sum(one.gpu == gpu for one in offers) for gpu in ("L40S", "A100-40GB")]
    assert per_gpu == [TERMS.max_containers, TERMS.max_containers]
    assert {one.usd_per_hour for one in offers} == {Decimal("2.320992")}


async def test_without_rates_the_dated_prices_count(modal: FakeModal, tmp_path: Path) -> None:
    async with a_provider(modal, tmp_path, answer_s=0.000_001) as provider:
        prices = await provider.todays_prices()

    assert prices.basis == dated().basis
    assert "2026" in prices.basis


async def test_a_slot_takes_one_job_at_a_time(modal: FakeModal, tmp_path: Path) -> None:
    async with a_provider(modal, tmp_path) as provider:
        offers = await provider.offers(NEED, limit=100)

    assert {one.slots for one in offers} == {1}


async def test_a_slot_is_named_once_in_the_life_of_a_provider(
    modal: FakeModal, tmp_path: Path
) -> None:
    async with a_slot(modal, tmp_path) as (provider, lease):
        await provider.release([lease.id])

        assert lease.offer.ref not in {one.ref for one in await provider.offers(NEED, limit=100)}


async def test_need_is_asked_for_by_name_where_the_list_will_not_do(
    modal: FakeModal, tmp_path: Path
) -> None:
    need = Need(gpus=("A100-40GB",))
    async with a_provider(modal, tmp_path) as provider:
        [offer, *_] = await provider.offers(need, limit=10)
        lease = await provider.rent(offer, lease_id(0), need, expires_at_s=time.time() + HOUR_S)
        async with provider.connect(lease) as worker:
            gpu = worker.gpu
        await provider.release([lease.id])

    assert gpu == "NVIDIA A100-40GB"
