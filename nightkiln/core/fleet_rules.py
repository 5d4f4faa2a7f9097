"""Which machines to have: the cheapest that will be done in time, decided anew all the time.

One ranking by expected USD per job over everything that can be had; as many leases as the 90th
percentile of the finish needs; the dearest goes when the rest suffice; and the fallback starts
while it can still save the night.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil, inf

from nightkiln.core.capacity import Reach, reach_of_lease, reach_of_offer
from nightkiln.core.events import AskOffers, Command, Extend, Release, Rent
from nightkiln.core.learning import Outlook
from nightkiln.core.model import LeaseId, Offer
from nightkiln.core.pricing import Price, running_usd_per_job, startup_limit_s
from nightkiln.core.recording import DOUBTS_MAX, avoid
from nightkiln.core.state import Held, Phase, State
from nightkiln.core.terms import Fallback

MACHINE_FAULTS_MAX = 3  # in a row on one lease, with no success between
OFFERS_MAX = 512  # asked for at once
RELEASE_AHEAD_S = 30.0  # before a lease's life ends: the order takes its time
LIFE_SPARE = 1.3  # x the time a lease is expected to be used, reserved at first
LIFE_S_MIN = 300.0
JOBS_SPARE = 3.0  # x the jobs expected in a life: results are paid for by the GB


@dataclass(frozen=True, slots=True)
class Fleet:
    """What we have, looked at once."""

    reaches: dict[LeaseId, Reach]
    total: Reach
    sure_now: float  # jobs that leases which are up will do; serverless ones count as up
    remaining: int

    def shortfall(self, z: float) -> float:
        """Jobs that, at worst one time in ten, nobody would have done in time."""
        return self.remaining - self.total.sure(z)


def survey(state: State) -> Fleet:
    """Look at all leases."""
    found: dict[LeaseId, Reach] = {}
    total, now = Reach(), Reach()
    left_s = state.left_s
    for held in state.leases.values():
        outlook = state.outlook(held.offer)
        reach = reach_of_lease(held, outlook, state.now_s, left_s, state.terms.rules)
        found[held.id] = reach
        total += reach
        if held.phase is not Phase.ASKED or held.offer.is_serverless:
            now += reach
    return Fleet(found, total, now.mean, state.remaining)


def plan(state: State) -> Iterator[Command]:
    """Rent what is missing; else let go what is not needed."""
    state.planned_at_s, state.is_fleet_dirty = state.now_s, False
    yield from _extend(state)
    yield from _rent_free(state)
    fleet = survey(state)
    if fleet.remaining:
        yield from _rent_paid(state, fleet)
        yield from _fall_back(state)
        if state.terms.rules.swaps:
            yield from _swap(state)
        if state.terms.rules.drops:
            _drop(state)
    yield from _ask(state)


# Renting.


def _rent_free(state: State) -> Iterator[Command]:
    """What costs nothing is used as long as there is something to do."""
    asked = sum(1 for held in state.with_phase(Phase.ASKED))
    for offer in list(state.open_offers()):
        is_wanted = len(state.queue) > asked and len(state.leases) < state.terms.leases_max
        if offer.is_free and is_wanted:
            yield _rent(state, offer, state.outlook(offer), inf, "it costs nothing")
            asked += 1


def _rent_paid(state: State, fleet: Fleet) -> Iterator[Command]:
    """The cheapest per job, one after the other, until the 90th percentile is in time."""
    z, rules = state.terms.rules.z, state.terms.rules
    offers = {offer: state.outlook(offer) for offer in state.open_offers() if not offer.is_free}
    total, shortfall = fleet.total, fleet.shortfall(z)
    while shortfall > 0 and offers and _has_place(state):
        price = _cheapest(state, offers, shortfall)
        if price is None:
            return
        _remove_machine(offers, price.offer)
        rent = _rent_within_budget(state, price, f"{shortfall:.0f} jobs would be late without it")
        if rent is not None:
            yield rent
            total += reach_of_offer(price.outlook, state.left_s, rules)
            shortfall = fleet.remaining - total.sure(z)


def _has_place(state: State) -> bool:
    """Whether one more lease may be rented: limits of the user, the canary, the controller."""
    terms, rules = state.terms, state.terms.rules
    if len(state.leases) >= terms.leases_max:
        return False
    if not state.is_proven:
        waited_s, whole_s = state.now_s - state.started_s, state.deadline_s - state.started_s
        is_urgent = waited_s > rules.canary_share_max * whole_s
        if len(state.leases) >= rules.canary_leases_max and not is_urgent:
            return False
    if terms.jobs_per_s_max is None:
        return True
    rate = sum(1 / state.outlook(held.offer).seconds_per_job for held in state.leases.values())
    return rate < terms.jobs_per_s_max


def _cheapest(state: State, offers: dict[Offer, Outlook], shortfall: float) -> Price | None:
    left_s, best = state.left_s, None
    for offer, outlook in offers.items():
        price = state.quoter.price(offer, outlook, left_s=left_s, shortfall=max(shortfall, 1.0))
        if price is not None and (best is None or price.rank < best.rank):
            best = price
    return best


def _remove_machine(offers: dict[Offer, Outlook], taken: Offer) -> None:
    for offer in [offer for offer in offers if offer.host_key == taken.host_key]:
        del offers[offer]


def _rent_within_budget(state: State, price: Price, reason: str) -> Rent | None:
    """Set the money aside and rent; None when what is left would not give a single job."""
    life_s = _affordable_s(state, price.offer, price.outlook, price.jobs)
    if life_s is None:
        return None
    each = f"{price.usd_per_job:.5f} USD a job; {reason}"
    return _rent(state, price.offer, price.outlook, life_s, each)


def _affordable_s(state: State, offer: Offer, outlook: Outlook, jobs: float) -> float | None:
    """How long a lease can live for what is left; None if it could not do a single job."""
    limit_s = startup_limit_s(outlook, state.terms.rules, left_s=state.left_s)
    use_s = outlook.startup_s + jobs * outlook.seconds_per_job * LIFE_SPARE
    wanted_s = min(state.terms.rules.lease_s, max(use_s, LIFE_S_MIN)) + limit_s
    paid = _jobs_paid(offer, outlook, wanted_s)
    life_s = state.ledger.life_s(offer, wanted_s, jobs=paid, now_s=state.now_s)
    needed_s = limit_s + outlook.seconds_per_job + RELEASE_AHEAD_S
    return life_s if life_s >= min(wanted_s, needed_s) else None


def affords(state: State, offer: Offer) -> bool:
    """Whether what is left of the budget pays for at least one job on ``offer``."""
    return _affordable_s(state, offer, state.outlook(offer), 1.0) is not None


def _jobs_paid(offer: Offer, outlook: Outlook, life_s: float) -> int:
    assert life_s < inf
    return offer.slots + ceil(JOBS_SPARE * life_s / outlook.seconds_per_job)


def _rent(state: State, offer: Offer, outlook: Outlook, life_s: float, reason: str) -> Rent:
    lease_id = LeaseId(f"{state.terms.run_label}-lease-{state.leases_count:03d}")
    state.leases_count += 1
    if offer.is_free:
        life_s, jobs, limit_s = state.terms.rules.lease_s, 2**62, offer.startup_s
    else:
        jobs = _jobs_paid(offer, outlook, life_s)
        limit_s = startup_limit_s(outlook, state.terms.rules, left_s=state.left_s)
        state.ledger.reserve(
            lease_id, offer, now_s=state.now_s, until_s=state.now_s + life_s, jobs=jobs
        )
    offer = replace(offer, startup_s=limit_s)
    expires_s = state.now_s + life_s
    state.leases[lease_id] = Held(lease_id, offer, state.now_s, expires_s, jobs)
    return Rent(offer, lease_id, expires_s, reason)


# The fallback.


def _fall_back(state: State) -> Iterator[Command]:
    """Start serverless GPUs while they can still do what the others will not.

    Two triggers. What is short at worst one time in ten, counting machines that are still
    starting, comes to a good share of all that the fallback could do; or what is short counting
    only machines that are up comes close to all of it: the point of no return.
    """
    rules = state.terms.rules
    if state.terms.fallback is Fallback.NEVER or not state.market.has_answered(state.now_s):
        return
    offers = [offer for offer in state.open_offers() if offer.is_serverless]
    if not offers:
        return
    outlook = state.outlook(offers[0])
    run_s = state.deadline_s - state.now_s - outlook.startup_s
    each = run_s / outlook.seconds_per_job
    if each <= 0:
        return
    fleet = survey(state)
    could, late = each * len(offers), fleet.shortfall(rules.z)
    late_now = fleet.remaining - fleet.sure_now
    wanted = 0.0
    if late > rules.fallback_share * could:
        wanted, reason = late, "nothing else would be in time"
    if late_now > rules.no_return_share * could and late_now > wanted:
        wanted, reason = late_now, "the point of no return: machines that are up do not suffice"
    for offer in offers[: ceil(wanted / each)]:
        price = state.quoter.price(offer, outlook, left_s=run_s + outlook.startup_s, shortfall=each)
        if price is not None and len(state.leases) < state.terms.leases_max:
            rent = _rent_within_budget(state, price, reason)
            if rent is not None:
                yield rent


# Letting go.


def _drop(state: State) -> None:
    """The dearest lease goes when the rest suffice."""
    rules, fleet = state.terms.rules, survey(state)
    total, wanted = fleet.total, fleet.remaining * (1 + rules.drop_slack)
    paid = [
        held
        for held in state.with_phase(Phase.READY, Phase.ASKED)
        if not held.offer.is_free and not held.is_bad
    ]
    paid.sort(key=lambda held: (-_usd_per_job(state, held), held.id))
    for held in paid:
        rest = total - fleet.reaches[held.id]
        if rest.sure(rules.z) >= wanted:
            total = rest
            held.error = "the others suffice, and this is the dearest"
            if held.phase is Phase.ASKED:
                held.is_bad = True
            else:
                held.phase = Phase.DRAINING


def _usd_per_job(state: State, held: Held) -> float:
    seconds = state.outlook(held.offer).seconds_per_job
    return running_usd_per_job(held.offer, seconds, state.terms.load)


def _swap(state: State) -> Iterator[Command]:
    """Rent what would do a lease's remaining jobs for less; the dearest then goes by itself."""
    rules, fleet = state.terms.rules, survey(state)
    if state.now_s - state.swapped_at_s < rules.swap_every_s or fleet.shortfall(rules.z) > 0:
        return
    if not state.market.is_fresh(state.now_s):
        return  # asked for below; decided when the answer is here
    state.swapped_at_s = state.now_s
    offers = {offer: state.outlook(offer) for offer in state.open_offers() if not offer.is_free}
    paid = [held for held in state.with_phase(Phase.READY) if not held.offer.is_free]
    for held in sorted(paid, key=lambda held: (-_usd_per_job(state, held), held.id)):
        share = fleet.reaches[held.id].mean / max(fleet.total.mean, 1e-9) * fleet.remaining
        price = _cheapest(state, offers, share) if share >= 1 and _has_place(state) else None
        if price is None or price.jobs < share / 2:
            continue
        costs_usd = share * _usd_per_job(state, held)
        saves_usd = costs_usd - share * price.usd_per_job
        if saves_usd > rules.swap_share * costs_usd:
            _remove_machine(offers, price.offer)
            rent = _rent_within_budget(state, price, f"it saves {saves_usd:.3f} USD by a swap")
            if rent is not None:
                yield rent


def let_go(state: State) -> Iterator[Command]:
    """Release what is bad, done with, or at the end of its life."""
    for held in list(state.leases.values()):
        if held.phase is Phase.RELEASING:
            continue
        yield from _blame(state, held)
        reason = _reason_to_release(state, held)
        if reason is not None:
            held.phase = Phase.RELEASING
            state.is_fleet_dirty = True
            yield Release(held.id, reason)


def _blame(state: State, held: Held) -> Iterator[Command]:
    """Is the machine bad? Three faults in a row, or failing at what others did well."""
    is_doubted = state.doubts.get(held.offer.host_key, 0) >= DOUBTS_MAX
    is_failing = held.faults_in_a_row >= MACHINE_FAULTS_MAX
    if held.phase is Phase.ASKED or held.is_bad or not (is_doubted or is_failing):
        return
    held.is_bad = True
    many = f"{held.faults_in_a_row} failures in a row, the last: {held.error}"
    held.error = many if is_failing else "it failed at jobs that others did well"
    yield from avoid(state, held, "bad")


def _reason_to_release(state: State, held: Held) -> str | None:
    if held.is_bad:
        return held.error
    if not held.offer.is_free and held.expires_s - state.now_s <= RELEASE_AHEAD_S:
        return "its life is over, and it was not extended"
    if held.running:
        return None
    if held.phase is Phase.DRAINING:
        return held.error
    if state.is_stopping:
        return "the run stops"
    return None if state.has_work or _waits(state, held) else "no work left"


def _waits(state: State, held: Held) -> bool:
    """Whether an idle lease stays until the last job is settled, in case that one fails.

    Those that cost nothing all do; of the others one is enough.
    """
    if held.offer.is_free or not state.trying:
        return bool(state.trying)
    idle = [each for each in state.with_phase(Phase.READY) if not each.running]
    return held is min(idle, key=lambda each: (each.offer.usd_per_hour, each.id), default=None)


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
            outlook = state.outlook(held.offer)
            wanted_s = rules.lease_s if short_s else 1.0
            jobs = _jobs_paid(held.offer, outlook, rules.lease_s)
            added_s = state.ledger.extension_s(held.id, wanted_s, jobs=jobs, now_s=state.now_s)
            if added_s > 0:
                held.expires_s, held.jobs_paid = held.expires_s + added_s, held.jobs_paid + jobs
                state.dirty.add(held.id)
                yield Extend(held.id, held.expires_s)


def _ask(state: State) -> Iterator[Command]:
    """Ask for offers while more is wanted, or to see whether something is cheaper."""
    rules = state.terms.rules
    if state.remaining == 0:
        return
    is_short = survey(state).shortfall(rules.z) > 0
    swaps = rules.swaps and state.now_s - state.swapped_at_s >= rules.swap_every_s
    for shop in state.market.due(state.now_s, rules.offers_every_s):
        wants_free = not shop.facts.bills and len(state.leases) < state.terms.leases_max
        if wants_free or is_short or swaps or shop.heard_s < state.started_s:
            shop.is_asking, shop.asked_s = True, state.now_s
            yield AskOffers(shop.facts.name, OFFERS_MAX)
