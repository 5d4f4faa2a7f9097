"""The truth about money is exact, per second of the wall."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.testing.vast_market.meter import Meter, Prices
from tests.vast_market.driving import Hand, driven, until_ready

PRICES = Prices(Decimal("0.01"), Decimal("0.002"), Decimal("0.003"))
HOUR = Decimal(3600)
SPANS = st.lists(
    st.tuples(
        st.integers(0, 10_000_000),  # milliseconds
        st.booleans(),
        st.booleans(),
        st.decimals("0.001", "9", places=6),
    ),
    max_size=30,
)


@given(spans=SPANS)
def test_a_bill_is_the_sum_of_its_spans_to_the_last_digit(
    spans: list[tuple[int, bool, bool, Decimal]],
) -> None:
    now_ms = 1_000_000_000
    meter = Meter(PRICES, usd_per_hour=Decimal(1), since_s=now_ms / 1000)
    gpu = storage = Decimal(0)
    for span_ms, bills_gpu, bills_storage, usd in spans:
        meter.turn(now_ms / 1000, gpu=bills_gpu, storage=bills_storage)
        meter.reprice(now_ms / 1000, usd)
        now_ms += span_ms
        gpu += usd * span_ms * bills_gpu
        storage += PRICES.storage_usd_per_hour * span_ms * bills_storage

    meter.turn(now_ms / 1000, gpu=False, storage=False)
    bill = meter.bill(now_ms / 1000 + 5, gb_in=1.5, gb_out=0.25)

    assert bill.gpu_usd == pytest.approx(gpu / 1000 / HOUR, rel=Decimal("1e-24"))
    assert bill.storage_usd == pytest.approx(storage / 1000 / HOUR, rel=Decimal("1e-24"))
    assert bill.in_usd + bill.out_usd == Decimal("0.00375")
    assert bill.usd == bill.gpu_usd + bill.storage_usd + bill.in_usd + bill.out_usd


@pytest.mark.parametrize("speed", [1.0, 60.0])
async def test_the_gpu_is_billed_from_running_and_the_disk_from_the_create(speed: float) -> None:
    clock = Hand()
    async with driven(clock=clock, speed=speed) as sdk:
        contract = await sdk.rent()
        clock.now_s += 7_200.0
        await sdk("destroy_instance", contract.id)
        clock.now_s += 7_200.0

        [row] = sdk.market.ledger()
        price = contract.meter.usd_per_hour
        ran_s = 7_200.0 - contract.fate.runs_s / speed
        assert row["gpu_s"] == pytest.approx(ran_s, abs=1e-6)
        assert row["storage_s"] == 7_200.0
        assert float(row["gpu_usd"]) == pytest.approx(float(price) * ran_s / 3600)
        assert row["storage_usd"] == contract.meter.prices.storage_usd_per_hour * 2
        market = sdk.market.exchange.night.market
        image_gb = 0.0 if contract.ask.stretch.is_cached else market.batch.image_gb
        assert row["gb_in"] == pytest.approx(image_gb + market.batch.models_gb)


async def test_what_is_skipped_of_the_story_costs_nothing() -> None:
    clock = Hand()
    async with driven(clock=clock) as sdk:
        contract = await sdk.rent()
        sdk.market.skip(until_ready(contract))
        clock.now_s += 36.0

        [row] = sdk.market.ledger()

        assert row["gpu_s"] == pytest.approx(36.0)
        assert row["storage_s"] == pytest.approx(36.0)


async def test_a_change_of_bid_holds_from_its_moment_on() -> None:
    clock = Hand()
    async with driven(clock=clock) as sdk:
        contract = await sdk.bid()
        first = contract.meter.usd_per_hour
        sdk.market.skip(until_ready(contract))
        clock.now_s += 3_600.0
        await sdk("change_bid", contract.id, price=float(first) * 2)
        clock.now_s += 3_600.0

        [row] = sdk.market.ledger()

        assert float(row["gpu_usd"]) == pytest.approx(float(first) * 3)
