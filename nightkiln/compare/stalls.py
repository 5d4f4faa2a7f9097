"""Who has what on offer, and who says what it costs: asked now, or from dated files.

Nothing is rented and nothing is deployed: searches and price lists only, each within a deadline.
Whoever does not answer is replaced by a file, and that is said.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import httpx

from nightkiln import comfy_answers as answers
from nightkiln.catalog import Catalog
from nightkiln.core.comparing import PriceFrom
from nightkiln.core.errors import BadInput, NightkilnError, Problem
from nightkiln.core.events import ProviderFacts
from nightkiln.core.market import is_sane
from nightkiln.core.model import Host, Need, Offer, Trust, Usd
from nightkiln.places import (
    LOCAL,
    MODAL,
    VAST,
    brought_along,
    modal_of,
    modal_terms,
    plugged_in,
    vast_terms,
)
from nightkiln.ports.provider import Provider
from nightkiln.providers.local import LocalProvider
from nightkiln.settings import Settings
from nightkiln.testing.market import Market, Night
from nightkiln.testing.market.providers import SimulatedMarket
from nightkiln.traffic import models_gb

if TYPE_CHECKING:
    from nightkiln.providers.modal.prices import Prices

ASK_S_MAX = 20.0  # somebody sits and waits
WORKER_S_MAX = 5.0
OFFERS_MAX = 1000
NIGHTS = 9  # of a market file, looked at as they begin; odd, so that one is in the middle
NIGHT_S = 8 * 3600.0
NOTHING = Usd(0)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stall:
    """What one provider has on offer, at one moment or at the start of several nights."""

    provider: str
    price: PriceFrom
    told: str  # where its prices come from, for people
    looks: tuple[tuple[Offer, ...], ...]
    notes: tuple[str, ...] = ()  # what went otherwise than was to be expected


@dataclass(frozen=True, slots=True)
class Visit:
    """What is asked of whom."""

    catalog: Catalog
    settings: Settings
    market: Market  # for machines of nobody who can be asked
    asks: bool = True  # else nobody is
    own_usd_per_hour: Usd = NOTHING  # the electricity of one of one's own machines
    gpus: Mapping[Host, str] = field(default_factory=dict)  # of machines that have been met

    @property
    def need(self) -> Need:
        return self.catalog.need


async def visited(visit: Visit) -> list[Stall]:
    """Every stall: of the providers that the settings name, else of all there are.

    Raises:
        BadInput: there is no provider of that name, or a worker's address is none.
    """
    logging.getLogger("stamina").setLevel(logging.ERROR)  # its retries are ours to report
    settings = visit.settings
    named, brought = settings.providers, plugged_in(settings)
    known = (LOCAL, VAST, MODAL, *brought)
    if unknown := [name for name in named if name not in known]:
        what = f"there is no provider {unknown[0]!r}"
        raise BadInput([Problem("--provider", what, f"one of {', '.join(known)}")])
    wanted = set(named) if named else {VAST, MODAL, *([LOCAL] if settings.worker_urls else [])}
    asked = [
        *([_local(visit)] if LOCAL in wanted else []),
        *([_vast(visit)] if VAST in wanted else []),
        *([_modal(visit)] if MODAL in wanted else []),
        *(_another(visit, name, each) for name, each in brought_along(settings).items()),
    ]
    return await asyncio.gather(*asked)


async def _heard(name: str, asking: Awaitable[T]) -> T | str:
    """An answer, or why there is none."""
    try:
        async with asyncio.timeout(ASK_S_MAX):
            return await asking
    except TimeoutError:
        return f"{name} did not answer in {ASK_S_MAX:.0f} s"
    except NightkilnError as error:
        return str(error)


async def _local(visit: Visit) -> Stall:
    """One's own workers, by the GPUs that they say they have."""
    settings = visit.settings
    async with LocalProvider(settings.worker_urls) as provider:
        offers = await provider.offers(visit.need, limit=OFFERS_MAX)
    gpus = await asyncio.gather(*(_gpu_of(visit, offer) for offer in offers))
    found = tuple(
        replace(offer, gpu=gpu, usd_per_hour=visit.own_usd_per_hour)
        for offer, gpu in zip(offers, gpus, strict=True)
        if gpu is not None
    )
    mute = [offer.ref for offer, gpu in zip(offers, gpus, strict=True) if gpu is None]
    notes = tuple(f"nobody says which GPU {ref} has: it is left out" for ref in mute)
    usd = visit.own_usd_per_hour
    told = f"electricity, {usd:.3f} USD an hour" if usd else "yours; electricity is not counted"
    return Stall(LOCAL, PriceFrom.OWN, told, (found,), notes)


async def _gpu_of(visit: Visit, offer: Offer) -> str | None:
    """From earlier runs, else asked; None: nobody knows."""
    known = visit.gpus.get(offer.host_key)
    if known is not None or not visit.asks:
        return known
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=WORKER_S_MAX) as client:
            answer = await client.get(f"{offer.ref}/system_stats")
            return answers.gpu_name(answer.json()) if answer.is_success else None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return None


async def _vast(visit: Visit) -> Stall:
    """Today's offers where there is a key, else those of a market file."""
    key = visit.settings.vast_api_key
    if key is None or not visit.asks:
        return await _of_market_file(visit)
    from nightkiln.providers.vast import VastProvider

    provider = VastProvider(
        key.get_secret_value(),
        vast_terms(visit.settings),
        state=visit.settings.state_folder,
        models_gb=models_gb(visit.catalog),
    )
    stall = await _live(visit, VAST, provider)
    if not stall.notes:
        return stall
    return replace(await _of_market_file(visit), notes=stall.notes)


async def _another(visit: Visit, name: str, provider: Provider) -> Stall:
    if visit.asks:
        return await _live(visit, name, provider)
    return Stall(name, PriceFrom.LIVE, "not asked", ())


async def _live(visit: Visit, name: str, provider: Provider) -> Stall:
    """What a provider offers now; with a note, and nothing, where it did not say."""
    found = await _heard(name, _offers(visit, provider))
    if isinstance(found, str):
        return Stall(name, PriceFrom.LIVE, "no answer", (), (found,))
    facts = ProviderFacts(name, provider.bills)
    trust = Trust(visit.need.trust)
    sound = [one for one in found if is_sane(one, facts) and one.trusted_as.is_enough(trust)]
    told = f"{len(sound)} offers at {_now():%Y-%m-%d %H:%M} UTC"
    return Stall(name, PriceFrom.LIVE, told, (tuple(sound),))


async def _offers(visit: Visit, provider: Provider) -> Sequence[Offer]:
    async with provider:
        return await provider.offers(visit.need, limit=OFFERS_MAX)


async def _of_market_file(visit: Visit) -> Stall:
    """What is offered as each of several simulated nights begins."""
    market, looks = visit.market, []
    for seed in range(NIGHTS):
        night = Night(market, seed=seed, horizon_s=1.0, deadline_s=NIGHT_S)
        async with SimulatedMarket(night, name=VAST) as provider:
            looks.append(tuple(await provider.offers(visit.need, limit=OFFERS_MAX)))
    told = f"market file {market.name} ({market.digest}), the middle of {NIGHTS} nights"
    return Stall(VAST, PriceFrom.MARKET, told, tuple(looks))


async def _modal(visit: Visit) -> Stall:
    """Containers on every GPU that Modal has, deployed or not: its rates, else its price list."""
    from nightkiln.providers.modal.prices import dated

    prices, notes = await _modal_prices(visit)
    most = modal_terms(visit.settings).max_containers
    told = f"{prices.basis}, {most} containers at most"
    price = PriceFrom.LISTED if prices is dated() else PriceFrom.LIVE
    return Stall(MODAL, price, told, (tuple(_containers(visit, prices)),), notes)


async def _modal_prices(visit: Visit) -> tuple[Prices, tuple[str, ...]]:
    from nightkiln.providers.modal.prices import dated

    if not visit.settings.has_modal or not visit.asks:
        return dated(), ()
    provider = modal_of(visit.settings, digest=visit.catalog.environment.digest)
    async with provider:
        heard = await _heard(MODAL, provider.todays_prices())
    if isinstance(heard, str):
        return dated(), (heard,)
    return heard, (f"{MODAL} gave no rates: its price list is taken",) * (heard is dated())


def _containers(visit: Visit, prices: Prices) -> Iterator[Offer]:
    """As many on each GPU that will do as the settings allow."""
    from nightkiln.providers.modal.facts import Deployed
    from nightkiln.providers.modal.offers import choices, offer_of

    terms = modal_terms(visit.settings)
    for gpu in prices.gpus:
        alone = Deployed(None, (gpu,), float(terms.timeout_s), float(terms.startup_timeout_s))
        for choice in choices(alone, visit.need, prices, terms):
            for number in range(terms.max_containers):
                yield offer_of(choice, number, alone, terms)


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)
