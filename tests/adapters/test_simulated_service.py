"""The verbs that both fronts of a simulated night share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from nightkiln.core.errors import OfferGone, ProviderError, WorkerLost
from nightkiln.core.model import LeaseId, Offer
from nightkiln.ports.provider import Provider
from nightkiln.testing import virtual_time
from nightkiln.testing.market import Market, Night, shipped_market
from nightkiln.testing.market.night import Window
from nightkiln.testing.market.providers import (
    ServiceFaults,
    SimulatedFallback,
    SimulatedMarket,
    Stage,
)
from nightkiln.testing.market.samples import (
    HOUR_S,
    LEASE,
    NEED,
    attempt,
    calm,
    job,
    sound_offer,
    working,
)
from nightkiln.testing.market.service import SimulatedService

CALM = calm(shipped_market("ordinary"))


def night(market: Market = CALM, *, seed: int = 1) -> Night:
    return Night(market, seed=seed, horizon_s=8 * HOUR_S)


FRONTS: list[Callable[[Stage], SimulatedService]] = [
    lambda stage: SimulatedMarket(night(), stage=stage),
    lambda stage: SimulatedFallback(night(), stage=stage),
]
each_front = pytest.mark.parametrize("front", FRONTS, ids=["market", "fallback"])


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def rent(provider: Provider, offer: Offer, lease_id: LeaseId = LEASE) -> None:
    await provider.rent(offer, lease_id, NEED, expires_at_s=HOUR_S)


@each_front
def test_a_lease_is_rented_used_and_released(front: Callable[[Stage], SimulatedService]) -> None:
    async def main() -> None:
        async with front(Stage(epoch_s=1e9)) as provider:
            offer = await sound_offer(provider)
            lease = await provider.rent(offer, LEASE, NEED, expires_at_s=2e9)
            assert await provider.owned() == [LEASE]

            async with provider.connect(lease) as worker:
                ready_s = now_s()
                tickets = [await worker.submit(job(n), attempt(n)) for n in range(3)]
                done = [await worker.result(ticket) for ticket in tickets]
                for ticket in tickets:
                    await worker.forget(ticket)
            await provider.release([LEASE])

            assert await provider.owned() == []
            timings = [one.timings for one in done]
            assert [one.submitted_s for one in timings] == [1e9 + ready_s] * 3
            assert timings[0].finished_s == pytest.approx(1e9 + ready_s + timings[0].gpu_s)
            total_s = sum(one.gpu_s for one in timings)
            assert now_s() - ready_s == pytest.approx(total_s)

    virtual_time.run(main())


@each_front
def test_each_verb_may_be_said_twice(front: Callable[[Stage], SimulatedService]) -> None:
    async def main() -> None:
        async with front(Stage()) as provider:
            offer = await sound_offer(provider)
            lease = await provider.rent(offer, LEASE, NEED, expires_at_s=0.0)
            assert await provider.rent(offer, LEASE, NEED, expires_at_s=0.0) == lease
            async with provider.connect(lease) as worker:
                ticket = await worker.submit(job(1), attempt(1))
                assert await worker.submit(job(1), attempt(1)) == ticket
                assert await worker.result(ticket) == await worker.result(ticket)
                await worker.cancel(ticket)
                await worker.forget(ticket)
                await worker.forget(ticket)
            await provider.release([LEASE])
            await provider.release([LEASE, LeaseId("never rented")])
            assert provider.bill(LEASE).released_s == now_s()

    virtual_time.run(main())


@each_front
def test_what_is_rented_is_not_offered_and_cannot_be_rented_again(
    front: Callable[[Stage], SimulatedService],
) -> None:
    async def main() -> None:
        async with front(Stage()) as provider:
            offer = await sound_offer(provider)
            await rent(provider, offer)

            offered = await provider.offers(NEED, limit=1000)

            assert offer.machine not in {one.machine for one in offered}
            with pytest.raises(OfferGone):
                await rent(provider, offer, LeaseId("lease-2"))

    virtual_time.run(main())


@each_front
def test_releasing_stops_the_meter_at_once(front: Callable[[Stage], SimulatedService]) -> None:
    async def main() -> None:
        async with front(Stage()) as provider:
            await rent(provider, await sound_offer(provider))
            await asyncio.sleep(2000)
            await provider.release([LEASE])
            bill = provider.bill(LEASE)
            await asyncio.sleep(2000)

            assert provider.bill(LEASE) == bill
            assert bill.usd > 0
            assert provider.all_bills() == [bill]

    virtual_time.run(main())


@each_front
def test_an_outage_is_an_error_and_never_an_empty_list(
    front: Callable[[Stage], SimulatedService],
) -> None:
    faults = ServiceFaults(outages=(Window(100, 200),))

    async def main() -> None:
        async with front(Stage(faults)) as provider:
            offer = await sound_offer(provider)
            await asyncio.sleep(150)
            with pytest.raises(ProviderError, match="503"):
                await provider.offers(NEED, limit=1)
            with pytest.raises(ProviderError):
                await provider.owned()
            with pytest.raises(ProviderError):
                await rent(provider, offer)
            await asyncio.sleep(50)
            assert await provider.offers(NEED, limit=1)

    virtual_time.run(main())


@each_front
def test_a_storm_of_429_lets_some_calls_through(front: Callable[[Stage], SimulatedService]) -> None:
    async def main() -> None:
        answered = 0
        async with front(Stage(ServiceFaults(storms=(Window(0, 100),)))) as provider:
            for _ in range(100):
                try:
                    await provider.owned()
                    answered += 1
                except ProviderError as error:
                    assert "429" in str(error)  # noqa: PT017 - some succeed
        assert answered == 20

    virtual_time.run(main())


@each_front
def test_a_release_that_fails_goes_on_costing(front: Callable[[Stage], SimulatedService]) -> None:
    async def main() -> None:
        async with front(Stage(ServiceFaults(release_failures=2))) as provider:
            await rent(provider, await sound_offer(provider))
            for _ in range(2):
                with pytest.raises(ProviderError, match="could not be released"):
                    await provider.release([LEASE])
            assert await provider.owned() == [LEASE]
            await provider.release([LEASE])
            assert await provider.owned() == []

    virtual_time.run(main())


@each_front
def test_a_rental_whose_answer_is_lost_is_there_and_can_be_asked_again(
    front: Callable[[Stage], SimulatedService],
) -> None:
    async def main() -> None:
        async with front(Stage(ServiceFaults(lost_replies=1))) as provider:
            offer = await sound_offer(provider)
            with pytest.raises(ProviderError, match="lost"):
                await rent(provider, offer)
            assert await provider.owned() == [LEASE]
            await rent(provider, offer)
            assert len(provider.all_bills()) == 1

    virtual_time.run(main())


@each_front
def test_a_price_that_nobody_asks_buys_nothing(front: Callable[[Stage], SimulatedService]) -> None:
    nonsense = (Decimal("NaN"), Decimal(-1), Decimal(0))

    async def main() -> None:
        async with front(Stage(ServiceFaults(nonsense_prices=nonsense))) as provider:
            offers = (await provider.offers(NEED, limit=3))[:3]
            assert str([one.usd_per_hour for one in offers]) == str(list(nonsense))
            for offer in offers:
                with pytest.raises(OfferGone, match="not at that price"):
                    await rent(provider, offer)

    virtual_time.run(main())


@each_front
def test_a_mortal_lease_ends_by_itself_unless_extended(
    front: Callable[[Stage], SimulatedService],
) -> None:
    async def main() -> None:
        stage = Stage(epoch_s=1e9, is_mortal=True)
        async with front(stage) as provider:
            lease = await provider.rent(
                await sound_offer(provider), LEASE, NEED, expires_at_s=1e9 + 3600
            )
            async with provider.connect(lease) as worker:
                await asyncio.sleep(3000 - now_s())
                await provider.extend(LEASE, expires_at_s=1e9 + 7200)
                await asyncio.sleep(7199 - now_s())
                assert await provider.owned() == [LEASE]
                await asyncio.sleep(2)
                assert await provider.owned() == []
                with pytest.raises(WorkerLost, match="expired"):
                    await worker.submit(job(1), attempt(1))
            assert provider.bill(LEASE).released_s == 7200

    virtual_time.run(main())


@each_front
def test_two_evenings_with_one_seed_are_one_evening(
    front: Callable[[Stage], SimulatedService],
) -> None:
    async def main() -> list[object]:
        story: list[object] = []
        async with front(Stage()) as provider:
            offer = await sound_offer(provider)
            lease = await provider.rent(offer, LEASE, NEED, expires_at_s=0.0)
            async with provider.connect(lease) as worker:
                for number in range(20):
                    ticket = await worker.submit(job(number), attempt(number))
                    story.append((await worker.result(ticket)).timings)
            await provider.release([LEASE])
            return [*story, offer, provider.bill(LEASE)]

    assert virtual_time.run(main()) == virtual_time.run(main())


@each_front
def test_a_picture_is_written_where_one_is_given(
    front: Callable[[Stage], SimulatedService], tmp_path: Path
) -> None:
    async def main(picture: bytes | None, path: Path) -> None:
        async with front(Stage(picture=picture)) as provider, working(provider) as worker:
            rendered = await worker.result(await worker.submit(job(1), attempt(1)))
            await rendered.outputs[0].save(path)

    virtual_time.run(main(b"picture", tmp_path / "one"))
    virtual_time.run(main(None, tmp_path / "none"))

    assert (tmp_path / "one").read_bytes() == b"picture"
    assert not (tmp_path / "none").exists()
