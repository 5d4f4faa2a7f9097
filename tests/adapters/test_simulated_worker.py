"""A simulated machine at work, and how it is lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from nightkiln.core.errors import BadOutput, RenderFailed, WorkerLost
from nightkiln.core.model import Kind, Offer
from nightkiln.testing import virtual_time
from nightkiln.testing.market import Boot, Market, Night, Stretch, shipped_market
from nightkiln.testing.market.night import Window
from nightkiln.testing.market.params import JobTroubles, Offline
from nightkiln.testing.market.providers import (
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
    working,
)
from nightkiln.testing.market.worker import SimulatedWorker

CALM = calm(shipped_market("ordinary"))


def night(market: Market = CALM, *, seed: int = 1) -> Night:
    return Night(market, seed=seed, horizon_s=8 * HOUR_S)


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def render_for_ever(worker: SimulatedWorker) -> None:
    for number in count():
        await worker.result(await worker.submit(job(number), attempt(number)))


def test_a_cancelled_job_frees_the_gpu_for_the_next() -> None:
    async def main() -> None:
        async with SimulatedFallback(night()) as provider, working(provider) as worker:
            first, second, third = [await worker.submit(job(n), attempt(n)) for n in range(3)]
            await asyncio.sleep(1)
            await worker.cancel(second)
            await worker.cancel(first)
            begun_s = now_s()
            took_s = (await worker.result(third)).timings.gpu_s
            assert now_s() == pytest.approx(begun_s + took_s)
            with pytest.raises(RenderFailed, match="interrupted"):
                await worker.result(first)

    virtual_time.run(main())


def test_a_hanging_job_ends_only_when_it_is_cancelled() -> None:
    hangs = replace(CALM, batch=replace(CALM.batch, hang_share=1.0))

    async def main() -> None:
        async with SimulatedFallback(night(hangs)) as provider, working(provider) as worker:
            ticket = await worker.submit(job(1), attempt(1))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(7 * HOUR_S):
                    await worker.result(ticket)
            await worker.cancel(ticket)

    virtual_time.run(main())


def test_a_damaged_image_is_found_when_it_is_fetched(tmp_path: Path) -> None:
    damages = replace(CALM, jobs=JobTroubles(corrupt_share=1.0))

    async def main(picture: bytes | None) -> None:
        fallback = SimulatedFallback(night(damages), stage=Stage(picture=picture))
        async with fallback as provider, working(provider) as worker:
            rendered = await worker.result(await worker.submit(job(1), attempt(1)))
            await rendered.outputs[0].save(tmp_path / "picture")

    virtual_time.run(main(b"picture"))
    assert (tmp_path / "picture").read_bytes() == b"pic"
    with pytest.raises(BadOutput, match="damaged"):
        virtual_time.run(main(None))


def test_a_released_machine_takes_no_more_jobs_and_lets_nobody_wait() -> None:
    async def main() -> None:
        async with SimulatedFallback(night()) as provider:
            async with working(provider) as worker:
                lease = provider.rentals[LEASE].lease
                ticket = await worker.submit(job(1), attempt(1))
                waiting = asyncio.create_task(worker.result(ticket))
                await asyncio.sleep(1)
                await provider.release([LEASE])
                with pytest.raises(WorkerLost, match="released"):
                    await waiting
                with pytest.raises(WorkerLost):
                    await worker.submit(job(2), attempt(2))
            with pytest.raises(WorkerLost, match="no lease"):
                async with provider.connect(lease):
                    pass

    virtual_time.run(main())


def test_a_worker_knows_nothing_of_a_ticket_it_never_gave() -> None:
    async def main() -> None:
        async with SimulatedFallback(night()) as provider, working(provider) as worker:
            ticket = await worker.submit(job(1), attempt(1))
            await worker.result(ticket)
            await worker.forget(ticket)
            with pytest.raises(WorkerLost, match="knows nothing"):
                await worker.result(ticket)

    virtual_time.run(main())


def test_two_may_wait_for_one_result_and_one_may_leave() -> None:
    async def main() -> None:
        async with SimulatedFallback(night()) as provider, working(provider) as worker:
            ticket = await worker.submit(job(1), attempt(1))
            stays, leaves = [asyncio.create_task(worker.result(ticket)) for _ in range(2)]
            await asyncio.sleep(1)
            leaves.cancel()
            assert (await stays).timings.gpu_s > 1

    virtual_time.run(main())


def test_a_machine_that_is_taken_away_is_noticed_a_minute_later() -> None:
    outbid = replace(CALM, hazard=replace(CALM.hazard, outbid_per_h=0.3))

    async def main() -> None:
        async with SimulatedMarket(night(outbid, seed=3)) as market:
            offer = next(
                one
                for one in await market.offers(NEED, limit=1000)
                if one.kind is Kind.INTERRUPTIBLE and market.stretch(one).boot is Boot.OK
                if market.stretch(one).startup_s + 600 < _death_s(market, one) < 4 * HOUR_S
            )
            death_s = _death_s(market, offer)
            lease = await market.rent(offer, LEASE, NEED, expires_at_s=0.0)
            async with market.connect(lease) as worker:
                with pytest.raises(WorkerLost, match="taken away"):
                    await render_for_ever(worker)
                assert now_s() == pytest.approx(death_s + 60)
            bill = market.bill(LEASE)
            assert bill.gpu_s == pytest.approx(death_s - market.stretch(offer).pull_s)
            await market.release([LEASE])
            listed = {one.ref for one in await market.offers(NEED, limit=1000)}
            assert offer.ref not in listed

    virtual_time.run(main())


def _death_s(market: SimulatedMarket, offer: Offer) -> float:
    """When a bidder that rents at the start is outbid, at 0.3 times an hour."""
    return market.stretch(offer).death_interruptible / 0.3 * HOUR_S


@pytest.mark.parametrize(("away_s", "is_lost"), [(30.0, False), (300.0, True)])
def test_a_machine_that_is_out_of_reach_comes_back_or_is_lost(
    away_s: float, *, is_lost: bool
) -> None:
    class Away(Night):
        """A night in which every machine is away once, for a known time."""

        def offline(self, stretch: Stretch, rented_s: float) -> Window:
            from_s = rented_s + stretch.startup_s + 1.0
            return Window(from_s, from_s + away_s)

    market = replace(CALM, offline=Offline(per_h=1.0, mean_s=away_s))

    async def main() -> None:
        away = SimulatedMarket(Away(market, seed=1, horizon_s=HOUR_S))
        async with away as provider, working(provider) as worker:
            ready_s = now_s()
            ticket = await worker.submit(job(1), attempt(1))
            await asyncio.sleep(2)
            if is_lost:
                with pytest.raises(WorkerLost, match="offline"):
                    await worker.submit(job(2), attempt(2))
                assert now_s() == pytest.approx(ready_s + 1 + 60)
                return
            second = await worker.submit(job(2), attempt(2))
            assert now_s() == pytest.approx(ready_s + 1 + away_s)
            took_s = (await worker.result(ticket)).timings.gpu_s
            assert now_s() == pytest.approx(ready_s + took_s + away_s)
            await worker.result(second)

    virtual_time.run(main())
