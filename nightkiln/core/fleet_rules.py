"""Which machines to have: the cheapest that will be done in time, decided anew all the time.

One ranking by expected USD per job over everything that can be had; as many leases as the 90th
percentile of the finish needs; the dearest goes when the rest suffice; and the fallback starts
while it can still save the night.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from math import ceil

from nightkiln.core.events import AskOffers, Command, Extend, ListOwned
from nightkiln.core.falling_back import fall_back
from nightkiln.core.model import JobId, Offer
from nightkiln.core.pricing import Price, running_usd_per_job
from nightkiln.core.renting import (
    NO_LIMIT,
    RELEASE_AHEAD_S,
    has_place,
    jobs_paid,
    rent,
    rent_within_budget,
)
from nightkiln.core.routing import RETRY_SCAN_MAX
from nightkiln.core.state import Held, Phase, State
from nightkiln.core.terms import AtCap
from nightkiln.core.view import View

OFFERS_MAX = 512  # asked for at once
REFUSED_MAX = 8  # offers in a row that the budget does not pay for: dearer ones it will not either
SURE_PLACE_AFTER = 2  # machines on which a job failed: the next try is on the fallback


def plan(state: State) -> Iterator[Command]:
    """Rent what is missing; let go what is not needed."""
    state.planned_at_s, state.is_fleet_dirty = state.now_s, False
    for shop in state.market.to_list(state.now_s, state.terms.rules.offers_every_s):
        yield ListOwned(shop.facts.name)
    yield from _rent_free(state)
    yield from _extend(state)
    view = View(state)
    if view.remaining:
        yield from _rent_elsewhere(view)
        yield from _rent_paid(view)
        yield from fall_back(view)
        if view.rules.swaps:
            yield from _swap(view)
        if view.rules.drops:
            _drop(view)
        yield from _ask(view)


# Renting.


def _rent_free(state: State) -> Iterator[Command]:
    """What costs nothing is used as long as there is something to do."""
    asked = sum(1 for _ in state.with_phase(Phase.ASKED))
    if len(state.queue) <= asked:
        return
    for offer in [offer for offer in state.open_offers() if offer.is_free]:
        is_wanted = len(state.queue) > asked and state.queue.has_for(offer)
        if is_wanted and len(state.leases) < state.terms.leases_max:
            life_s = state.terms.rules.lease_s
            yield rent(state, offer, life_s, NO_LIMIT, "it costs nothing")
            asked += 1


def _rent_paid(view: View) -> Iterator[Command]:
    """The cheapest per job, one after the other, until the 90th percentile is in time."""
    refused = 0
    while (shortfall := min(view.shortfall, view.unstarted)) > 0 and has_place(view.state):
        price = view.cheapest(shortfall)
        if price is None or refused >= REFUSED_MAX or _can_wait(view, price, shortfall):
            return
        why = f"{ceil(shortfall)} jobs would be late without it"
        rents = list(rent_within_budget(view, price, why))
        refused = 0 if rents else refused + 1
        yield from rents


def _can_wait(view: View, price: Price, shortfall: float) -> bool:
    """Whether it is early for a container of the fallback, though it would be the cheapest.

    It would render to the end at its price, for a few jobs too many. It can be had any time, so
    it comes when what is short keeps it busy for a good part of the time that is left; until
    then the market may have something better. Without a market there is nothing to wait for.
    """
    if not price.offer.is_serverless:
        return False
    has_market = any(not offer.is_serverless for each in view.offers.values() for offer in each)
    busy_s = shortfall * price.outlook.seconds_per_job
    return has_market and busy_s < view.rules.busy_share * (view.left_s - price.outlook.startup_s)


def _rent_elsewhere(view: View) -> Iterator[Command]:
    """A job that failed on every machine we have needs another, however many we have."""
    state = view.state
    places = list(state.places())
    for job_id in state.queue.stranded(places):
        while has_place(state):
            price = _cheapest_for(view, job_id)
            if price is None:
                break
            rents = list(rent_within_budget(view, price, "a job failed on all the others"))
            if rents:
                places.append(price.offer)
                yield from rents
                break


def _cheapest_for(view: View, job_id: JobId) -> Price | None:
    """Where to try such a job: after two machines, the fallback is the surer place.

    After one, where it may be the job that is to blame, another machine tells for less.
    """
    queue = view.state.queue
    tries = queue.tries[job_id]

    def allows(offer: Offer) -> bool:
        return queue.may_run(job_id, offer)

    def is_sure(offer: Offer) -> bool:
        return offer.is_serverless and allows(offer)

    def is_machine(offer: Offer) -> bool:
        return not offer.is_serverless and allows(offer)

    work = min(view.shortfall, view.unstarted)  # it will do more than this job, if more is short
    better = None
    if len(tries.places) >= SURE_PLACE_AFTER:
        better = view.cheapest(work, is_sure)
    elif tries.is_doubtful:
        better = view.cheapest(work, is_machine)
    return better if better is not None else view.cheapest(work, allows)


# Letting go.


def _drop(view: View) -> None:
    """The dearest lease goes when the rest suffice, and do its jobs for less.

    A serverless one goes only when those that are up suffice: it may have come because the
    others were not up yet, and would be wanted again at once. Just before the deadline nothing
    is dropped: nothing could replace a machine that is lost then.
    """
    state, total, up_mean = view.state, view.total, view.ready_mean
    if 0 < state.deadline_s - state.now_s < view.rules.last_s:
        return
    wanted = view.remaining * (1 + view.rules.drop_slack)
    leases = _dearest_first(state, Phase.READY, Phase.ASKED)
    bill = sum(view.reaches[held.id].mean * _usd_per_job(state, held) for held in leases)
    for held in leases:
        if state.now_s - held.asked_s < view.rules.plan_every_s:
            continue  # asked for a moment ago: nothing can have changed for good
        reach, usd = view.reaches[held.id], _usd_per_job(state, held)
        rest, is_up = total - reach, held.phase is Phase.READY or held.offer.is_serverless
        suffices = rest.sure(view.rules.z) >= wanted
        if held.offer.is_serverless:
            suffices = suffices and up_mean - reach.mean >= view.remaining
        is_dear = usd * total.mean >= bill
        if suffices and is_dear and not _is_only_place(state, held):
            total, up_mean = rest, up_mean - (reach.mean if is_up else 0.0)
            bill -= reach.mean * usd
            held.error = "the others suffice, and this is the dearest"
            if held.phase is Phase.ASKED:
                held.is_bad = True
            else:
                held.phase = Phase.DRAINING


def _is_only_place(state: State, held: Held) -> bool:
    """Whether a job that failed on all the others waits for this machine."""
    rest = [offer for offer in state.places() if offer.host_key != held.offer.host_key]
    waiting = islice(state.queue.stranded(rest), RETRY_SCAN_MAX)
    return any(state.queue.may_run(job_id, held.offer) for job_id in waiting)


def _swap(view: View) -> Iterator[Command]:
    """Rent what would do a lease's remaining jobs for less; the dearest then goes by itself."""
    state, rules = view.state, view.rules
    if state.now_s - state.swapped_at_s < rules.swap_every_s or view.shortfall > 0:
        return
    if not state.market.is_fresh(state.now_s):
        return  # asked for below; decided when the answer is here
    state.swapped_at_s = state.now_s
    whole = max(view.total.mean, 1.0)
    for held in _dearest_first(state, Phase.READY):
        share = view.reaches[held.id].mean / whole * view.remaining
        costs_usd = share * _usd_per_job(state, held)
        # One that is soon taken away does not do it all: then another one may, too.
        while share >= 1 and has_place(state) and (price := view.cheapest(share)) is not None:
            does = min(share, price.jobs)
            saves_usd = does * (_usd_per_job(state, held) - price.usd_per_job)
            if saves_usd <= rules.swap_share * costs_usd:
                break
            why = f"it saves {saves_usd:.3f} USD in the place of {held.id}"
            rents = list(rent_within_budget(view, price, why))
            if not rents:
                break
            yield from rents
            share -= does


def _dearest_first(state: State, *phases: Phase) -> list[Held]:
    paid = [
        held for held in state.with_phase(*phases) if not held.offer.is_free and not held.is_bad
    ]
    return sorted(paid, key=lambda held: (-_usd_per_job(state, held), held.id))


def _usd_per_job(state: State, held: Held) -> float:
    seconds = state.outlook(held.offer).seconds_per_job
    return running_usd_per_job(held.offer, seconds, state.terms.load)


# Time and offers.


def _extend(state: State) -> Iterator[Command]:
    """Let leases live on, while the budget allows."""
    rules = state.terms.rules
    for held in state.with_phase(Phase.READY):
        if held.offer.is_free or held.is_bad or not state.remaining:
            continue
        short_s = held.expires_s - state.now_s < rules.extend_before_s
        short_jobs = held.jobs_paid - held.done - len(held.running) < 2 * held.offer.slots
        if short_s or short_jobs:
            yield from _extend_one(state, held, rules.lease_s if short_s else 1.0)


def _extend_one(state: State, held: Held, wanted_s: float) -> Iterator[Extend]:
    jobs = jobs_paid(held.offer, state.outlook(held.offer), state.terms.rules.lease_s)
    added_s = state.ledger.extension_s(held.id, wanted_s, jobs=jobs, now_s=state.now_s)
    if added_s > 0:
        held.expires_s, held.jobs_paid = held.expires_s + added_s, held.jobs_paid + jobs
        state.dirty.add(held.id)
        yield Extend(held.id, held.expires_s)
    if added_s < wanted_s and state.terms.at_cap is AtCap.FINISH:
        _wind_up(state, held)


def _wind_up(state: State, held: Held) -> None:
    """At the cap: what is in flight can just be finished, so nothing more is begun."""
    ahead_s = RELEASE_AHEAD_S + state.terms.rules.plan_every_s
    finishing_s = len(held.running) * state.knowledge.job_p99_s(held.offer)
    is_late = held.expires_s - state.now_s <= ahead_s + finishing_s
    if is_late or held.done + len(held.running) >= held.jobs_paid:
        held.phase, held.error = Phase.DRAINING, "the budget does not pay for more of it"


def _ask(view: View) -> Iterator[Command]:
    """Ask for offers while more is wanted, or to see whether something is cheaper."""
    state, rules = view.state, view.rules
    is_stuck = next(state.queue.stranded(list(state.places())), None) is not None
    is_short = view.shortfall > 0 or is_stuck
    swaps = rules.swaps and state.now_s - state.swapped_at_s >= rules.swap_every_s
    for shop in state.market.due(state.now_s, rules.offers_every_s):
        wants_free = not shop.facts.bills and len(state.leases) < state.terms.leases_max
        if wants_free or is_short or swaps or shop.heard_s < state.started_s:
            shop.is_asking, shop.asked_s = True, state.now_s
            yield AskOffers(shop.facts.name, OFFERS_MAX)
