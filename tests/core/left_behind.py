"""What dead runs have left at providers: of this batch, written down or not, and of others."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

from nightkiln.core.events import Event, Known, Owned, ProviderFacts, ProviderFailed, Rent
from nightkiln.core.model import LeaseId
from tests.core.fates import Shops

OTHERS = ("morning-1-lease-{}", "night-1-2-lease-{}", "night~12345678-1-lease-{}", "by hand {}")


def listing(facts: ProviderFacts) -> ProviderFacts:
    """The same provider, that says what is ours."""
    return replace(facts, can_list=True)


@dataclass(slots=True)
class LeftBehind:
    """Leases that nobody in this world has asked for."""

    dice: Random
    shops: Shops
    ours: set[LeaseId] = field(default_factory=set)
    others: set[LeaseId] = field(default_factory=set)
    _known: dict[LeaseId, Known] = field(default_factory=dict)
    _taken: set[LeaseId] = field(default_factory=set)
    _at: dict[LeaseId, str] = field(default_factory=dict)  # which provider has it

    def more(self, provider: str, now_s: float) -> None:
        """A few more turn up."""
        for _ in range(self.dice.randrange(4)):
            number = len(self._at)
            if self.dice.random() < 0.3:
                lease_id = LeaseId(self.dice.choice(OTHERS).format(number))
                self.others.add(lease_id)
            else:
                lease_id = LeaseId(f"night-0-lease-{number:03d}")
                self.ours.add(lease_id)
                if self.dice.random() < 0.8:
                    self._known[lease_id] = self._written(lease_id, provider, now_s)
            self._at[lease_id] = provider

    def _written(self, lease_id: LeaseId, provider: str, now_s: float) -> Known:
        offer = self.dice.choice(self.shops.stock(provider))
        asked_s = now_s - self.dice.choice((0.0, 40.0, 900.0, 9000.0))
        return Known(lease_id, offer, asked_s, asked_s + self.dice.choice((300.0, 4000.0, 1e6)))

    def listing(self, provider: str, alive: list[LeaseId], now_s: float, *, is_fair: bool) -> Event:
        """What a provider answers that has the leases ``alive`` of this run."""
        if not is_fair and self.dice.random() < 0.2:
            return ProviderFailed(provider, "504", is_listing=True)
        if not is_fair:
            self.more(provider, now_s)
        left = [each for each, at in self._at.items() if at == provider and each not in self._taken]
        listed = [*alive, *left]
        self.dice.shuffle(listed)
        return Owned(provider, tuple(listed), tuple(filter(None, map(self._known.get, left))))

    def check(self, event: Owned, *, seen: set[LeaseId]) -> None:
        """All of this batch is taken over or given back."""
        assert self.ours & set(event.lease_ids) <= seen, "left where it was"

    def taken_over(self, rent: Rent) -> float:
        """A lease goes on in this run; since when it costs."""
        known = self._known[rent.lease_id]
        assert rent.lease_id not in self._taken, "taken over twice"
        self._taken.add(rent.lease_id)
        assert replace(rent.offer, startup_s=known.offer.startup_s) == known.offer
        assert rent.since_s is not None
        assert rent.since_s <= known.asked_s, "it costs since then at the latest"
        return rent.since_s
