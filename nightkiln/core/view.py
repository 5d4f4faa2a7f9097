"""The fleet and the offers, looked at once and kept up to date while renting."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nightkiln.core.capacity import Plan, Reach, gap_s, reach_of_lease
from nightkiln.core.model import Host, LeaseId, Offer
from nightkiln.core.pricing import Price
from nightkiln.core.state import Held, Phase, State


class View:
    """What we have and what we could have."""

    def __init__(self, state: State) -> None:
        self.state, self.rules, self.left_s = state, state.terms.rules, state.left_s
        state.knowledge.look_again(state.now_s, self.left_s, _still_ours(state))
        self.remaining, self.unstarted = state.remaining, state.unstarted
        room = state.capacity.jobs_room if state.capacity is not None else None
        if room is not None:  # nothing is rented for results that there is no room for
            self.remaining = min(self.remaining, room)
        self.gap_s = gap_s(self.rules, on_offer=state.market.machines(), ours=len(state.leases))
        self.reaches: dict[LeaseId, Reach] = {}
        self.total = Reach()
        self.ready_mean = 0.0  # of leases that are up; serverless ones count as up
        self._offers: dict[Host, list[Offer]] | None = None
        for held in state.leases.values():
            self.add(held)

    def add(self, held: Held) -> None:
        """One more lease."""
        outlook = self.state.outlook(held.offer)
        plan = Plan(self.state.now_s, self.left_s, self.gap_s)
        reach = reach_of_lease(held, outlook, plan)
        self.reaches[held.id] = reach
        self.total += reach
        if held.phase is not Phase.ASKED or held.offer.is_serverless:
            self.ready_mean += reach.mean

    @property
    def shortfall(self) -> float:
        """Jobs that, at worst one time in ten, nobody would have done in time."""
        return self.remaining - self.total.sure(self.rules.z)

    @property
    def offers(self) -> dict[Host, list[Offer]]:
        """What could be rented, by machine; those that cost nothing aside."""
        if self._offers is None:
            self._offers = {}
            is_early = not self.state.market.has_answered(self.state.now_s)
            for offer in self.state.open_offers():
                is_wanted = not offer.is_free and self.state.has_use_for(offer)
                if is_wanted and not (is_early and offer.is_serverless):
                    self._offers.setdefault(offer.host_key, []).append(offer)
        return self._offers

    def cheapest(
        self, shortfall: float, allows: Callable[[Offer], bool] | None = None
    ) -> Price | None:
        """The offer with the lowest expected USD per job, for so many jobs, of those allowed."""
        best, most = None, max(shortfall, 1.0)
        outlook_of, price_of = self.state.outlook, self.state.quoter.price
        for offers in self.offers.values():
            for offer in offers:
                if allows is not None and not allows(offer):
                    continue
                price = price_of(offer, outlook_of(offer), left_s=self.left_s, shortfall=most)
                if price is not None and (best is None or price.rank < best.rank):
                    best = price
        return best


def _still_ours(state: State) -> Iterator[tuple[Offer, float]]:
    for held in state.leases.values():
        if not held.is_bad:
            yield held.offer, (state.now_s - held.asked_s) / 3600
