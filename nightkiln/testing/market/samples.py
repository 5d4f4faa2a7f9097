"""Small things to test with: a market without chance, a worker that is up, jobs and attempts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from nightkiln.core.model import AttemptId, BoundJob, JobId, LeaseId, Need, Offer
from nightkiln.testing.market.machines import Boot
from nightkiln.testing.market.params import Market
from nightkiln.testing.market.providers import SimulatedMarket
from nightkiln.testing.market.service import SimulatedService
from nightkiln.testing.market.worker import SimulatedWorker

HOUR_S = 3600.0
NEED = Need()
LEASE = LeaseId("lease-1")
OFFERS_MAX = 10_000  # more than any market here has


def calm(market: Market) -> Market:
    """The same market where, once it is up, nothing fails by chance and no lease is lost."""
    return replace(
        market,
        batch=replace(market.batch, job_fail_share=0.0, hang_share=0.0),
        hazard=replace(market.hazard, od_good_per_h=0.0, od_bad_per_h=0.0, outbid_per_h=0.0),
    )


def starting_with(market: Market, boot: Boot) -> Market:
    """The same market where every start ends like this."""
    share = float(boot is not Boot.OK)
    failure = replace(
        market.failure,
        boot_fail_good=share,
        boot_fail_bad=share,
        early_share=float(boot is Boot.EARLY),
        stuck_loading_share=float(boot is Boot.STUCK_LOADING),
    )
    return replace(market, failure=failure)


async def sound_offer(provider: SimulatedService) -> Offer:
    """The cheapest that comes up."""
    for offer in await provider.offers(NEED, limit=OFFERS_MAX):
        if not isinstance(provider, SimulatedMarket) or provider.stretch(offer).boot is Boot.OK:
            return offer
    raise AssertionError("nothing comes up")


@asynccontextmanager
async def working(provider: SimulatedService) -> AsyncIterator[SimulatedWorker]:
    """A worker on the cheapest machine that comes up, rented as ``LEASE`` and not released."""
    offer = await sound_offer(provider)
    lease = await provider.rent(offer, LEASE, NEED, expires_at_s=0.0)
    async with provider.connect(lease) as worker:
        yield worker


def job(number: int) -> BoundJob:
    """The job of that number."""
    return BoundJob(JobId(f"job-{number}"), {})


def attempt(number: int) -> AttemptId:
    """The attempt of that number."""
    return AttemptId(f"attempt-{number}")
