"""What can be had: offers as last heard, machines not to rent, providers not to bother.

A provider that fails again and again is left alone for a while (a circuit breaker): one
provider's trouble never stops the batch. A machine that disappoints is left alone for a time
that depends on what it did.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from math import inf

from nightkiln.core.events import ProviderFacts
from nightkiln.core.model import Host, Kind, Offer, Trust
from nightkiln.core.terms import Rules

FAILURES_MAX = 3  # of a provider in a row: its breaker opens
FREE_OFFERS_EVERY_S = 5.0  # asking costs nothing where renting costs nothing
STRIKES_MAX = 3  # times that a machine which costs nothing may disappoint in one run
COOLDOWN_S = 5.0  # after the first of them; doubles with each
FRESH_S = 5.0  # an answer so recent is as good as asking again
OFFERS_S_MAX = 180.0  # an older answer is not rented from
PRICE_MAX = Decimal(1000)  # USD per hour or GB: more is a mistake of somebody's
SLOTS_MAX = 64  # jobs at once on one machine: more is one, too


@dataclass(slots=True)
class Breaker:
    """How a provider has served this run."""

    failures: int = 0  # in a row
    open_until_s: float = -inf
    error: str = ""

    def failed(self, now_s: float, error: str, rules: Rules) -> None:
        """One more failure; from the third on it is left alone."""
        self.failures += 1
        self.error = error
        if self.failures >= FAILURES_MAX:
            pause_s = rules.pause_s * 2 ** (self.failures - FAILURES_MAX)
            self.open_until_s = now_s + min(pause_s, rules.pause_s_max)

    def worked(self) -> None:
        self.failures, self.open_until_s = 0, -inf

    def is_open(self, now_s: float) -> bool:
        """Whether to leave it alone; when the pause is over, one request may probe."""
        return now_s < self.open_until_s


@dataclass(slots=True)
class Shop:
    """One provider."""

    facts: ProviderFacts
    breaker: Breaker = field(default_factory=Breaker)
    offers: dict[Host, list[Offer]] = field(default_factory=dict)
    asked_s: float = -inf
    heard_s: float = -inf
    is_asking: bool = False
    list_asked_s: float = -inf
    is_listing: bool = False
    is_listed: bool = False  # we know what is ours there
    distrusted: int = 0  # offers of the last answer, on machines too little is known of

    @property
    def awaits_listing(self) -> bool:
        """Whether nothing may be rented there yet: an earlier run may have left machines."""
        return self.facts.bills and self.facts.can_list and not self.is_listed


@dataclass(slots=True)
class Market:
    """All providers together."""

    shops: dict[str, Shop] = field(default_factory=dict)
    trust: Trust = Trust.ANY  # asked for
    rules: Rules = field(default_factory=Rules)
    blocked: dict[Host, float] = field(default_factory=dict)  # machine -> until when
    strikes: dict[Host, int] = field(default_factory=dict)  # of machines that cost nothing

    def open(self, providers: Iterable[ProviderFacts]) -> None:
        """Who there is."""
        self.shops = {facts.name: Shop(facts) for facts in providers}

    @property
    def is_free(self) -> bool:
        """Whether no provider bills: then more machines never cost more."""
        return not any(shop.facts.bills for shop in self.shops.values())

    def has_answered(self, now_s: float) -> bool:
        """Whether everybody who can be asked has said something that can be rented from."""
        return all(
            (shop.heard_s > -inf and not shop.awaits_listing) or shop.breaker.is_open(now_s)
            for shop in self.shops.values()
        )

    @property
    def is_silent(self) -> bool:
        """Whether everybody has failed when asked last."""
        return bool(self.shops) and all(shop.breaker.failures for shop in self.shops.values())

    @property
    def heard_s(self) -> float:
        """When anybody has answered last."""
        return max((shop.heard_s for shop in self.shops.values()), default=-inf)

    @property
    def troubles(self) -> str:
        """What those said who failed."""
        return "; ".join(shop.breaker.error for shop in self.shops.values() if shop.breaker.error)

    @property
    def is_listing(self) -> bool:
        """Whether somebody is about to say what is ours."""
        return any(shop.is_listing for shop in self.shops.values())

    def is_fresh(self, now_s: float) -> bool:
        """Whether the last answers are recent enough to choose from."""
        return any(now_s - shop.heard_s <= FRESH_S for shop in self.shops.values())

    def heard(self, provider: str, offers: Iterable[Offer], now_s: float) -> None:
        """A provider has answered; offers whose figures cannot be are dropped.

        And so are those on machines that are not to be trusted: nothing that chooses among offers
        ever sees them.
        """
        shop = self.shops[provider]
        shop.is_asking, shop.heard_s = False, now_s
        shop.breaker.worked()
        shop.offers, shop.distrusted = {}, 0
        for offer in offers:
            if not is_sane(offer, shop.facts):
                continue
            if offer.trusted_as.is_enough(self.trust):
                shop.offers.setdefault(offer.host_key, []).append(offer)
            else:
                shop.distrusted += 1

    def listed(self, provider: str) -> bool:
        """A provider has said what is ours; whether that was waited for."""
        shop = self.shops[provider]
        was_awaited, shop.is_listing, shop.is_listed = shop.awaits_listing, False, True
        return was_awaited

    def failed(self, provider: str, error: str, now_s: float, *, is_listing: bool) -> None:
        """A provider did not answer."""
        shop = self.shops[provider]
        if is_listing:
            shop.is_listing = False
        else:
            shop.is_asking = False
        self.refused(provider, error, now_s)

    def refused(self, provider: str, error: str, now_s: float) -> None:
        """A renting failed through no machine's fault."""
        self.shops[provider].breaker.failed(now_s, error, self.rules)

    def forget(self, offer: Offer) -> None:
        """Somebody else has it."""
        self.shops[offer.provider].offers.pop(offer.host_key, None)

    def block(self, offer: Offer, ttl_s: float, now_s: float) -> None:
        """Do not rent this machine again for so long."""
        self.blocked[offer.host_key] = max(self.blocked.get(offer.host_key, 0.0), now_s + ttl_s)

    def strike(self, offer: Offer, now_s: float) -> int:
        """A machine that costs nothing failed: try again soon, but not for ever."""
        count = self.strikes[offer.host_key] = self.strikes.get(offer.host_key, 0) + 1
        self.blocked[offer.host_key] = now_s + COOLDOWN_S * 2 ** (count - 1)
        return count

    def pardon(self, offer: Offer) -> None:
        """It works after all."""
        self.strikes.pop(offer.host_key, None)

    def is_struck_out(self, offer: Offer) -> bool:
        """Whether a machine that costs nothing has had all its chances."""
        return self.strikes.get(offer.host_key, 0) >= STRIKES_MAX

    def usable(self, now_s: float) -> Iterator[Offer]:
        """Offers that may be rented, of providers that answer."""
        for shop in self.shops.values():
            if now_s - shop.heard_s > OFFERS_S_MAX or shop.breaker.is_open(now_s):
                continue
            if shop.awaits_listing:
                continue
            for host, offers in shop.offers.items():
                if self.is_allowed(host, now_s):
                    yield from offers

    def is_allowed(self, host: Host, now_s: float) -> bool:
        """Whether a machine is neither blocked nor struck out."""
        return self.blocked.get(host, -inf) <= now_s and self.strikes.get(host, 0) < STRIKES_MAX

    def machines(self) -> int:
        """How many are on offer, as last heard, where machines are rented."""
        return sum(
            1
            for shop in self.shops.values()
            for offers in shop.offers.values()
            if offers[0].kind in {Kind.ON_DEMAND, Kind.INTERRUPTIBLE}
        )

    @property
    def is_distrusted(self) -> bool:
        """Whether there are offers, and not one of them on a machine that may be used."""
        shops = self.shops.values()
        return any(shop.distrusted for shop in shops) and not any(shop.offers for shop in shops)

    def known(self) -> Iterator[Offer]:
        """Every offer heard of, rentable now or not."""
        for shop in self.shops.values():
            for offers in shop.offers.values():
                yield from offers

    def to_list(self, now_s: float, every_s: float) -> Iterator[Shop]:
        """Providers to be asked (again) what is ours there, marked as being asked."""
        for shop in self.shops.values():
            is_due = shop.awaits_listing and now_s - shop.list_asked_s >= every_s
            if is_due and not shop.is_listing and not shop.breaker.is_open(now_s):
                shop.is_listing, shop.list_asked_s = True, now_s
                yield shop

    def due(self, now_s: float, every_s: float) -> Iterator[Shop]:
        """Providers that may be asked again."""
        for shop in self.shops.values():
            pause_s = every_s if shop.facts.bills else FREE_OFFERS_EVERY_S
            is_due = now_s - shop.asked_s >= pause_s
            if is_due and not shop.is_asking and not shop.breaker.is_open(now_s):
                yield shop


def is_sane(offer: Offer, provider: ProviderFacts) -> bool:
    """Whether the figures of an offer can be true; nonsense is not rented."""
    prices = (
        offer.usd_per_hour,
        offer.storage_usd_per_hour,
        offer.usd_per_gb_in,
        offer.usd_per_gb_out,
    )
    if not all(price.is_finite() and 0 <= price <= PRICE_MAX for price in prices):
        return False
    if provider.bills != (offer.usd_per_hour > 0) or provider.bills == offer.is_free:
        return False  # nobody gives GPUs away, and nobody who does not bill has a price
    times = (offer.startup_s, offer.idle_tail_s)
    if not all(0 <= time < inf for time in times) or not 1 <= offer.slots <= SLOTS_MAX:
        return False
    shares = (offer.reliability, offer.loading_billed)
    sizes = (offer.mbps_in, offer.vram_gb)
    return (
        offer.provider == provider.name
        and all(0 <= share <= 1 for share in shares)
        and all(size is None or 0 < size < inf for size in sizes)
    )
