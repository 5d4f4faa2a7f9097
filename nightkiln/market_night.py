"""The demo's faulty night: rented machines that fail, and a fallback that saves the deadline.

One fixed night of a simulated market, in which an hour goes by in half a minute. Everything but
the two providers is what a real night runs: scheduler, dispatch, checks, store.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from nightkiln.catalog import Catalog
from nightkiln.core.learning import Scores
from nightkiln.core.model import LeaseId, Offer
from nightkiln.core.story import Opening
from nightkiln.core.terms import Fallback, Late
from nightkiln.demo import batch_name, demo_catalog
from nightkiln.lease_book import LeaseBook
from nightkiln.night import Outcome, StopSwitch
from nightkiln.ports.observer import Observer
from nightkiln.rehearse import Quote, quoted, with_jobs
from nightkiln.rehearse.gate import QuoteGate, freely
from nightkiln.rehearse.script import Script
from nightkiln.settings import Settings, load_settings
from nightkiln.testing.market import Market, shipped_market
from nightkiln.testing.market.billing import Bill
from nightkiln.testing.market.providers import SimulatedFallback, SimulatedMarket
from nightkiln.testing.market.stage import Stage
from nightkiln.wiring import Request, chosen_catalog, run_batch

SEED = 57  # of a night that has something of everything
QUOTE_SEED = 1000  # of the first night of its quote: nobody has seen tonight
TIMES = 150.0  # as fast as it is told
DEADLINE_S = 3600.0
BUDGET_USD = Decimal("6.00")
VARIANTS, JOBS = 4, 96  # of each of the 24 prompts, and together
SLOWER = 20.0  # x the seconds of a picture: as if every job were a short film
CONTAINERS_MAX = 10  # so few that the fallback has to begin in time
MARKET, FALLBACK = "market", "fallback"
PICTURE_PX = 64
INTRODUCTION = (
    "an hour on a simulated market, {times:.0f} times as fast: cheap machines that fail, are "
    "outbid or damage results, and a dear fallback; nothing is rented, nothing costs money"
)


@dataclass(frozen=True, slots=True)
class LeaseTruth:
    """What the simulated provider knows of one lease, in seconds since the night began."""

    offer: Offer
    bill: Bill
    death_s: float  # when it was taken away, or would have been; infinite: never


@dataclass(frozen=True, slots=True)
class Watched:
    """A night that is over, with what only its simulated providers know."""

    outcome: Outcome
    began_s: float  # epoch seconds
    truths: dict[LeaseId, LeaseTruth]


def market() -> Market:
    """The ordinary market on a bad day."""
    usual = shipped_market("ordinary")
    return replace(
        usual,
        meta=replace(usual.meta, name=f"{usual.name} (on a bad day)"),
        batch=replace(usual.batch, job_fail_share=0.015, hang_share=0.0),
        classes={
            name: replace(facts, seconds_per_job=facts.seconds_per_job * SLOWER)
            for name, facts in usual.classes.items()
        },
        failure=replace(usual.failure, boot_fail_good=0.12),
        hazard=replace(usual.hazard, outbid_per_h=0.4),
        regions=replace(usual.regions, outage_chance=1.0, outage_from_h=0.4, outage_hours=1.0),
        jobs=replace(usual.jobs, corrupt_share=0.04),
        fallback=replace(
            usual.fallback,
            seconds_per_job=usual.fallback.seconds_per_job * SLOWER,
            max_containers=CONTAINERS_MAX,
        ),
    )


def script() -> Script:
    """What the scheduler believes and is held to; nobody has rendered this workflow before."""
    return Script(market(), DEADLINE_S, BUDGET_USD, is_proven=False)


def catalog() -> Catalog:
    """The demo's prompts, each several times."""
    return replace(chosen_catalog(demo_catalog()), variants=VARIANTS)


def quote() -> Quote:
    """What such a night is expected to cost. Blocking, for some seconds."""
    told = script()
    ahead = replace(told, market=with_jobs(told.market, JOBS), late=Late.FINISH)
    return quoted(ahead, BUDGET_USD, first_seed=QUOTE_SEED)


async def play(
    store: str,
    observer: Observer,
    *,
    expected: Quote,
    switch: StopSwitch | None = None,
    seed: int = SEED,
) -> Watched:
    """Play the night of ``seed`` by the running loop's clock, which has to begin at 0.

    ``expected`` was made before, for what that takes is no time of this clock.
    """
    began_s, loop = time.time(), asyncio.get_running_loop()
    stage = Stage(epoch_s=began_s, starts_s=0.0, picture=picture())
    told = script()
    night = told.night(seed)
    services = (
        SimulatedMarket(night, name=MARKET, stage=stage),
        SimulatedFallback(night, name=FALLBACK, stage=stage),
    )
    # What is rented here is not real: the user's own book has no business with it.
    with TemporaryDirectory() as state:
        outcome = await run_batch(
            Request(catalog(), name=f"{batch_name()}-market", is_fresh=True),
            _settings(store),
            observer,
            switch=switch,
            clock=lambda: began_s + loop.time(),
            rents_from={service.name: service for service in services},
            opens=_opening(told),
            gate=QuoteGate(lambda _: expected, freely),
            book=LeaseBook(Path(state)),
        )
    return Watched(outcome, began_s, _truths(services))


def _settings(store: str) -> Settings:
    """This night's goals, whatever the environment says of others."""
    return load_settings(
        store=store,
        by=f"{DEADLINE_S:.0f}s",
        budget=BUDGET_USD,
        fallback=Fallback.AUTO,
        late=Late.FINISH,
        release_s=DEADLINE_S,
    )


def _opening(told: Script) -> Callable[[Opening], Opening]:
    """This market's traffic and paces; what the store remembers is of other machines."""

    def opened(usual: Opening) -> Opening:
        terms = replace(usual.terms, load=told.load)
        scores = Scores(workflow_jobs=int(told.is_proven))
        return replace(usual, terms=terms, priors=told.priors, scores=scores, blocked={})

    return opened


def _truths(services: Sequence[SimulatedMarket | SimulatedFallback]) -> dict[LeaseId, LeaseTruth]:
    return {
        bill.lease_id: LeaseTruth(rental.lease.offer, bill, rental.terms.death_s)
        for service in services
        for bill in service.all_bills()
        if (rental := service.rentals[bill.lease_id])
    }


def picture() -> bytes:
    """What every job of the simulated night gives back: a small PNG that is not of one colour."""
    file = io.BytesIO()
    gradient = Image.linear_gradient("L").resize((PICTURE_PX, PICTURE_PX))
    gradient.convert("RGB").save(file, "PNG")
    return file.getvalue()
