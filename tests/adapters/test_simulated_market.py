"""What is particular to the machines, and to the containers, of a simulated night."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from nightkiln.core.errors import OfferGone, ProviderError, WorkerLost
from nightkiln.core.model import AttemptId, BoundJob, Kind, LeaseId, Loss, Need, Offer, Ticket
from nightkiln.ports.provider import Provider
from nightkiln.testing import virtual_time
from nightkiln.testing.market import Boot, Market, Night, shipped_market
from nightkiln.testing.market.params import ApiTroubles
from nightkiln.testing.market.providers import (
    SimulatedFallback,
    SimulatedMarket,
)
from nightkiln.testing.market.samples import (
    HOUR_S,
    LEASE,
    NEED,
    attempt,
    calm,
    job,
    sound_offer,
    starting_with,
)

CALM = calm(shipped_market("ordinary"))


def night(market: Market = CALM, *, seed: int = 1) -> Night:
    return Night(market, seed=seed, horizon_s=8 * HOUR_S)


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def rent(provider: Provider, offer: Offer, lease_id: LeaseId = LEASE) -> None:
    await provider.rent(offer, lease_id, NEED, expires_at_s=HOUR_S)


def test_offers_come_cheapest_first_each_machine_in_both_kinds() -> None:
    async def main() -> None:
        async with SimulatedMarket(night()) as market:
            offers = await market.offers(NEED, limit=1000)

            prices = [offer.usd_per_hour for offer in offers]
            assert prices == sorted(prices)
            assert len({offer.ref for offer in offers}) == len(offers)
            assert len(offers) == 2 * len(night().listed(0.0))
            assert len(await market.offers(NEED, limit=7)) == 7
            bids = {one.machine: one for one in offers if one.kind is Kind.INTERRUPTIBLE}
            asked = {one.machine: one for one in offers if one.kind is Kind.ON_DEMAND}
            assert all(bids[name].usd_per_hour < asked[name].usd_per_hour for name in asked)

    virtual_time.run(main())


def test_only_what_fits_the_need_is_offered() -> None:
    async def main() -> None:
        async with SimulatedMarket(night(), kinds=[Kind.ON_DEMAND]) as market:
            offers = await market.offers(Need(vram_gb=40), limit=1000)
            assert {offer.gpu for offer in offers} <= {"L40S", "A100 80", "H100"}
            offers = await market.offers(Need(gpus=("RTX 4090",)), limit=1000)
            assert {(offer.gpu, offer.kind) for offer in offers} == {("RTX 4090", Kind.ON_DEMAND)}

    virtual_time.run(main())


def test_an_offer_that_left_the_market_cannot_be_rented() -> None:
    async def main() -> None:
        async with SimulatedMarket(night()) as market:
            offer = await sound_offer(market)
            await asyncio.sleep(market.stretch(offer).gone_s)
            assert offer.ref not in {one.ref for one in await market.offers(NEED, limit=1000)}
            with pytest.raises(OfferGone, match="not listed"):
                await rent(market, offer)

    virtual_time.run(main())


def test_a_stretch_is_rented_once_and_its_machine_again_when_it_is_listed_anew() -> None:
    """Else a machine that dies could be had again, alive, and cheaper than the bound allows."""

    async def main() -> None:
        the_night = night()
        async with SimulatedMarket(the_night) as market:
            offers = await market.offers(NEED, limit=1000)
            anew = next(
                one
                for one in the_night.stretches
                if one.listed_s > 0 and one.machine in {offer.machine for offer in offers}
            )
            offer, other_kind = (one for one in offers if one.machine == anew.machine)
            await rent(market, offer)
            await market.release([LEASE])

            listed = {one.machine for one in await market.offers(NEED, limit=1000)}
            assert offer.machine not in listed
            for again in (offer, other_kind):
                with pytest.raises(OfferGone, match="somebody has it"):
                    await rent(market, again, LeaseId("again"))
            await asyncio.sleep(anew.listed_s - now_s())
            listed = {one.machine for one in await market.offers(NEED, limit=1000)}
            assert offer.machine in listed

    virtual_time.run(main())


def test_an_early_failure_is_told_when_it_shows_and_bills_no_gpu() -> None:
    async def main() -> None:
        async with SimulatedMarket(night(starting_with(CALM, Boot.EARLY))) as market:
            [offer] = await market.offers(NEED, limit=1)
            lease = await market.rent(offer, LEASE, NEED, expires_at_s=0.0)
            with pytest.raises(WorkerLost, match="could not be started") as lost:
                async with market.connect(lease):
                    pass
            assert lost.value.loss is Loss.STARTUP
            assert now_s() == pytest.approx(market.stretch(offer).boot_fails_s)
            await market.release([LEASE])
            bill = market.bill(LEASE)
            assert bill.gpu_usd == 0
            assert bill.storage_usd > 0

    virtual_time.run(main())


@pytest.mark.parametrize("boot", [Boot.STUCK_LOADING, Boot.STUCK_RUNNING])
def test_a_stuck_start_lasts_until_patience_ends(boot: Boot) -> None:
    async def main() -> None:
        async with SimulatedMarket(night(starting_with(CALM, boot))) as market:
            [offer] = await market.offers(NEED, limit=1)
            patient = replace(offer, startup_s=20 * HOUR_S)
            lease = await market.rent(patient, LEASE, NEED, expires_at_s=0.0)
            with pytest.raises(WorkerLost, match="nothing answered within 72000 s"):
                async with market.connect(lease):
                    pass
            assert now_s() == 20 * HOUR_S
            assert (market.bill(LEASE).gpu_s > 0) == (boot is Boot.STUCK_RUNNING)

    virtual_time.run(main())


def test_a_slow_start_is_given_up_at_its_limit() -> None:
    async def main() -> None:
        async with SimulatedMarket(night()) as market:
            offer = replace(await sound_offer(market), startup_s=30.0)
            lease = await market.rent(offer, LEASE, NEED, expires_at_s=0.0)
            with pytest.raises(WorkerLost, match="within 30 s") as lost:
                async with market.connect(lease):
                    pass
            assert now_s() == 30
            assert lost.value.loss is Loss.SLOW

    virtual_time.run(main())


def test_a_machine_that_is_taken_while_it_starts_is_lost_to_the_market() -> None:
    """That is no fault of its own, nor one of ours that many starts would show."""
    deadly = replace(CALM.hazard, outbid_per_h=1e6, detect_s=20.0)

    async def main() -> None:
        async with SimulatedMarket(night(replace(CALM, hazard=deadly))) as market:
            offers = await market.offers(NEED, limit=1000)
            offer = next(one for one in offers if one.kind is Kind.INTERRUPTIBLE)
            lease = await market.rent(offer, LEASE, NEED, expires_at_s=0.0)
            with pytest.raises(WorkerLost, match="taken away") as lost:
                async with market.connect(lease):
                    pass
            assert lost.value.loss is Loss.MARKET

    virtual_time.run(main())


def test_the_bill_counts_rent_disk_and_both_ways_of_traffic() -> None:
    async def main() -> None:
        async with SimulatedMarket(night()) as market:
            offers = await market.offers(NEED, limit=1000)
            offer = next(
                one
                for one in offers
                if one.usd_per_gb_in > 0 and market.stretch(one).boot is Boot.OK
                if not market.stretch(one).is_cached
            )
            lease = await market.rent(offer, LEASE, NEED, expires_at_s=0.0)
            async with market.connect(lease) as worker:
                for number in range(10):
                    await worker.result(await worker.submit(job(number), attempt(number)))
            await market.release([LEASE])
            bill, stretch, lived_s = market.bill(LEASE), market.stretch(offer), now_s()

            assert bill.gpu_s == pytest.approx(lived_s - stretch.pull_s)
            assert float(bill.gpu_usd) == pytest.approx(
                float(offer.usd_per_hour) * bill.gpu_s / 3600
            )
            assert float(bill.storage_usd) == pytest.approx(0.15 * 40 / 730 * lived_s / 3600, 1e-3)
            assert bill.gb_in == pytest.approx(19.0)
            assert bill.gb_out == pytest.approx(10 * 0.0016)
            assert bill.in_usd == offer.usd_per_gb_in * 19
            assert bill.usd == bill.gpu_usd + bill.storage_usd + bill.in_usd + bill.out_usd

    virtual_time.run(main())


def test_what_the_night_brings_to_the_service_is_met_at_the_verbs() -> None:
    troubled = replace(CALM, api=ApiTroubles(outage_chance=1.0, outage_s=600.0))

    async def main() -> None:
        the_night = night(troubled)
        window = the_night.api_outage
        assert window is not None
        async with SimulatedMarket(the_night) as market, SimulatedFallback(the_night) as fallback:
            await asyncio.sleep(window.from_s + 1)
            with pytest.raises(ProviderError):
                await market.offers(NEED, limit=1)
            assert await fallback.offers(NEED, limit=1)

    virtual_time.run(main())


def test_the_fallback_starts_so_many_containers_and_no_more() -> None:
    async def main() -> None:
        async with SimulatedFallback(night()) as fallback:
            offers = await fallback.offers(NEED, limit=1000)
            assert len(offers) == 20
            for number, offer in enumerate(reversed(offers)):
                await rent(fallback, offer, LeaseId(f"lease-{number}"))
            assert await fallback.offers(NEED, limit=1000) == []
            await fallback.release([LeaseId("lease-3")])
            [fresh] = await fallback.offers(NEED, limit=1000)
            assert fresh.ref not in {offer.ref for offer in offers}

    virtual_time.run(main())


def test_a_container_bills_its_cold_start_and_its_end() -> None:
    async def main() -> None:
        async with SimulatedFallback(night()) as fallback:
            [offer, *_] = await fallback.offers(NEED, limit=1)
            lease = await fallback.rent(offer, LEASE, NEED, expires_at_s=0.0)
            async with fallback.connect(lease) as worker:
                assert now_s() == 60
                await worker.result(await worker.submit(job(1), attempt(1)))
            await fallback.release([LEASE])
            bill = fallback.bill(LEASE)
            assert bill.gpu_s == pytest.approx(now_s() + 15)
            assert float(bill.usd) == pytest.approx(2.17 * bill.gpu_s / 3600)

    virtual_time.run(main())


def test_a_lump_stands_for_its_jobs_in_time_and_on_the_bill() -> None:
    async def main(lump: int) -> tuple[float, float]:
        async with SimulatedMarket(night(), lump=lump) as market:
            offers = await market.offers(NEED, limit=1000)
            offer = next(one for one in offers if market.stretch(one).boot is Boot.OK)
            lease = await market.rent(offer, LEASE, NEED, expires_at_s=0.0)
            async with market.connect(lease) as worker:
                for number in range(400 // lump):
                    await worker.result(await worker.submit(job(number), attempt(number)))
            await market.release([LEASE])
            return now_s(), market.bill(LEASE).gb_out

    one, many = virtual_time.run(main(1)), virtual_time.run(main(20))

    assert many[0] == pytest.approx(one[0], rel=0.02)
    assert many[1] == pytest.approx(one[1])


def test_a_thousand_jobs_keep_ten_machines_busy_without_a_gap() -> None:
    async def one(market: SimulatedMarket, offer: Offer, jobs: list[BoundJob]) -> float:
        lease_id = LeaseId(offer.ref)
        lease = await market.rent(offer, lease_id, NEED, expires_at_s=0.0)
        busy_s = 0.0
        async with market.connect(lease) as worker:
            ready_s, tickets = now_s(), list[Ticket]()
            while jobs or tickets:
                while jobs and len(tickets) < offer.slots:
                    next_job = jobs.pop()
                    attempt_id = AttemptId(f"{offer.ref}-{next_job.id}")
                    tickets.append(await worker.submit(next_job, attempt_id))
                busy_s += (await worker.result(ticket := tickets.pop(0))).timings.gpu_s
                await worker.forget(ticket)
            idle_s = now_s() - ready_s - busy_s
        await market.release([lease_id])
        return idle_s

    async def main() -> None:
        async with SimulatedMarket(night(), kinds=[Kind.ON_DEMAND]) as market:
            offers = [
                offer
                for offer in await market.offers(NEED, limit=1000)
                if market.stretch(offer).boot is Boot.OK
            ]
            jobs = [job(number) for number in range(1000)]
            idle = await asyncio.gather(*(one(market, offer, jobs) for offer in offers[:10]))
            assert max(idle) == pytest.approx(0, abs=1e-6)
            assert sum(bill.gb_out for bill in market.all_bills()) == pytest.approx(1.6)

    virtual_time.run(main())
