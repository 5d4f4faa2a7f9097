"""How a lease begins: with its place, its limits and its money set aside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import ceil

from nightkiln.core.events import Known, Rent
from nightkiln.core.learning import Outlook
from nightkiln.core.lease_ids import lease_id as name_of
from nightkiln.core.model import Offer
from nightkiln.core.pricing import Price, startup_limit_s
from nightkiln.core.state import Held, State
from nightkiln.core.view import View

RELEASE_AHEAD_S = 30.0  # before a lease's life ends: the order takes its time
LIFE_SPARE = 1.3  # x the time a lease is expected to be used, reserved at first
LIFE_S_MIN = 300.0
JOBS_SPARE = 3.0  # x the jobs expected in a life: results are paid for by the GB
NO_LIMIT = 2**62  # jobs: where nothing is paid by the GB


def has_place(state: State) -> bool:
    """Whether one more lease may be rented: limits of the user, the canary, the controller."""
    rules = state.terms.rules
    if not state.is_proven and len(state.leases) >= rules.canary_leases_max:
        waited_s, whole_s = state.now_s - state.started_s, state.deadline_s - state.started_s
        if waited_s <= rules.canary_share_max * whole_s:
            return False
    return takes_more(state)


def takes_more(state: State) -> bool:
    """The same without the canary: where waiting for it would be too late."""
    if len(state.leases) >= state.terms.leases_max:
        return False
    most = state.jobs_per_s_max
    if most is None:
        return True
    rate = sum(1 / state.outlook(held.offer).seconds_per_job for held in state.leases.values())
    return rate < most


def rent_within_budget(view: View, price: Price, reason: str) -> Iterator[Rent]:
    """Set the money aside and rent, unless what is left would not give a single job."""
    state, offer = view.state, price.offer
    view.offers.pop(offer.host_key, None)
    life_s = _affordable_s(state, offer, price.outlook, price.jobs)
    if life_s is not None:
        jobs = jobs_paid(offer, price.outlook, life_s)
        until_s = state.now_s + life_s
        limit_s = startup_limit_s(price.outlook, view.rules, left_s=view.left_s)
        why = f"{price.usd_per_job:.5f} USD a job; {reason}"
        command = rent(state, replace(offer, startup_s=limit_s), life_s, jobs, why)
        state.ledger.reserve(command.lease_id, offer, now_s=state.now_s, until_s=until_s, jobs=jobs)
        view.add(state.leases[command.lease_id])
        yield command


def rent(state: State, offer: Offer, life_s: float, jobs: int, reason: str) -> Rent:
    """Give a lease its name before it exists."""
    lease_id = name_of(state.terms.run_label, state.leases_count)
    while state.knows(lease_id):  # left by a run of the same name, in a store made anew since
        state.leases_count += 1
        lease_id = name_of(state.terms.run_label, state.leases_count)
    state.leases_count += 1
    expires_s = state.now_s + life_s
    state.leases[lease_id] = Held(lease_id, offer, state.now_s, expires_s, jobs)
    return Rent(offer, lease_id, expires_s, reason)


def adopt_within_budget(state: State, known: Known) -> Rent | None:
    """Take over what an earlier run has rented; None: what is left would not give a single job.

    All that it costs counts here, also what it has cost before: nobody else has settled it.
    """
    offer, outlook = known.offer, state.outlook(known.offer)
    limit_s = startup_limit_s(outlook, state.terms.rules, left_s=state.left_s)
    wanted_s = _wanted_s(state, outlook, float(state.unstarted), limit_s)
    wanted_s = max(wanted_s, min(known.expires_s - state.now_s, state.terms.rules.lease_s))
    from_s = min(known.asked_s, state.now_s)
    lived_s = state.now_s - from_s
    paid = jobs_paid(offer, outlook, wanted_s)
    whole_s = state.ledger.life_s(offer, lived_s + wanted_s, jobs=paid, now_s=state.now_s)
    if whole_s - lived_s < min(wanted_s, _needed_s(outlook, limit_s)):
        return None
    expires_s = from_s + whole_s
    offer = replace(offer, startup_s=limit_s)
    held = Held(known.lease_id, offer, state.now_s, expires_s, paid, rented_s=from_s)
    state.ledger.reserve(held.id, offer, now_s=from_s, until_s=expires_s, jobs=paid)
    state.leases[held.id] = held
    state.adopted.add(held.id)
    state.leases_count += 1
    state.is_fleet_dirty = True
    reason = f"adopted: an earlier run left it {lived_s / 60:.0f} minutes after renting it"
    return Rent(offer, held.id, expires_s, reason, since_s=from_s)


def jobs_paid(offer: Offer, outlook: Outlook, life_s: float) -> int:
    """Jobs whose results a life of ``life_s`` may send; more need an extension."""
    return offer.slots + ceil(JOBS_SPARE * life_s / outlook.seconds_per_job)


def affords(state: State, offer: Offer) -> bool:
    """Whether what is left of the budget pays for at least one job on ``offer``."""
    return _affordable_s(state, offer, state.outlook(offer), 1.0) is not None


def _affordable_s(state: State, offer: Offer, outlook: Outlook, jobs: float) -> float | None:
    """How long a lease can live for what is left; None if it could not do a single job."""
    limit_s = startup_limit_s(outlook, state.terms.rules, left_s=state.left_s)
    wanted_s = _wanted_s(state, outlook, jobs, limit_s)
    paid = jobs_paid(offer, outlook, wanted_s)
    life_s = state.ledger.life_s(offer, wanted_s, jobs=paid, now_s=state.now_s)
    return life_s if life_s >= min(wanted_s, _needed_s(outlook, limit_s)) else None


def _wanted_s(state: State, outlook: Outlook, jobs: float, limit_s: float) -> float:
    """How long a lease should live at first, to do so many jobs."""
    use_s = outlook.startup_s + jobs * outlook.seconds_per_job * LIFE_SPARE
    return min(state.terms.rules.lease_s, max(use_s, LIFE_S_MIN)) + limit_s


def _needed_s(outlook: Outlook, limit_s: float) -> float:
    """How long it must live to do one."""
    return limit_s + outlook.seconds_per_job + RELEASE_AHEAD_S
