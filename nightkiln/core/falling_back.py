"""When serverless GPUs start, whatever they cost: while they can still save the night."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil

from nightkiln.core.events import Command
from nightkiln.core.model import Offer
from nightkiln.core.pricing import Price
from nightkiln.core.renting import rent_within_budget, takes_more
from nightkiln.core.state import State
from nightkiln.core.terms import Fallback
from nightkiln.core.view import View


def fall_back(view: View) -> Iterator[Command]:
    """Start serverless GPUs while they can still do what the others will not.

    Two triggers. What is short at worst one time in ten, counting machines that are still
    starting, comes to a good share of all that the fallback could do; or what is short counting
    only machines that are up comes close to all of it: the point of no return.
    """
    state, rules = view.state, view.rules
    if state.terms.fallback is Fallback.NEVER or not state.market.has_answered(state.now_s):
        return
    slots = [offers for offers in view.offers.values() if offers[0].is_serverless]
    if not slots or not view.unstarted:
        return
    outlook, left_s = state.outlook(slots[0][0]), state.deadline_s - state.now_s
    each = max(0.0, left_s - outlook.startup_s) / outlook.seconds_per_job
    late, late_now = view.shortfall, view.remaining - view.ready_mean
    wanted, why = 0.0, "nothing else would be in time"
    if late > rules.fallback_share * each * len(slots):
        wanted = late
    if late_now > max(wanted, rules.no_return_share * each * len(slots)):
        wanted, why = late_now, "the point of no return: machines that are up do not suffice"
    if each > 0 and wanted > 0:
        for offers in slots[: ceil(min(wanted, view.unstarted) / each)]:
            price = _cheapest_of(state, offers, left_s=left_s, jobs=each)
            if price is not None and takes_more(state):
                yield from rent_within_budget(view, price, why)


def _cheapest_of(
    state: State, offers: Sequence[Offer], *, left_s: float, jobs: float
) -> Price | None:
    """The best way to have one slot."""
    prices = [
        state.quoter.price(offer, state.outlook(offer), left_s=left_s, shortfall=jobs)
        for offer in offers
    ]
    found = [price for price in prices if price is not None]
    return min(found, key=lambda price: price.rank, default=None)
