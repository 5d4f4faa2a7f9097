"""What becomes of leases that an earlier run of this batch has left: used, or given back.

A machine that is warm is worth the minutes that another would take to start, so it is taken over
where there is work and money for it. Of other batches nothing ever comes here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from nightkiln.core.events import Command, Known, Release
from nightkiln.core.lease_ids import is_of_run
from nightkiln.core.market import is_sane
from nightkiln.core.model import LeaseId
from nightkiln.core.pricing import running_usd_per_job
from nightkiln.core.renting import adopt_within_budget
from nightkiln.core.state import Phase, State


def reconcile(state: State) -> Iterator[Command]:
    """Take over what is worth it, the cheapest job first; send the rest back."""
    if not state.left_behind:
        return
    left, state.left_behind = state.left_behind, {}
    known = [each for each in left.values() if each is not None]
    reasons: dict[LeaseId, str] = {}
    for each in sorted(known, key=partial(_rank, state)):
        objection = _objection(state, each)
        if objection is None:
            rent = adopt_within_budget(state, each)
            if rent is not None:
                yield rent
                continue
            objection = "the budget does not pay for more of it"
        reasons[each.lease_id] = f"left by an earlier run; {objection}"
    for lease_id in left.keys() - state.leases.keys():
        state.released.add(lease_id)
    for lease_id in sorted(left.keys() - state.leases.keys()):
        yield Release(lease_id, reasons.get(lease_id, "it is billed to us, and no run holds it"))


def _rank(state: State, known: Known) -> tuple[float, LeaseId]:
    seconds = state.outlook(known.offer).seconds_per_job
    return (running_usd_per_job(known.offer, seconds, state.terms.load), known.lease_id)


def _objection(state: State, known: Known) -> str | None:
    """Why a lease is not gone on with; None: nothing speaks against it but perhaps its price."""
    if state.is_stopping:
        return "the run stops"
    if len(state.leases) >= state.terms.leases_max:
        return "there are as many machines as there may be"
    starting = sum(1 for _ in state.with_phase(Phase.ASKED))
    if state.unstarted <= starting or not state.has_use_for(known.offer):
        return "there is no work for it"
    return _unfit(state, known)


def _unfit(state: State, known: Known) -> str | None:
    """What is wrong with the lease itself."""
    offer = known.offer
    shop = state.market.shops.get(offer.provider)
    if is_of_run(known.lease_id, state.terms.run_label) or known.lease_id in state.adopted:
        return "this run has given it up before"
    if shop is None or not is_sane(offer, shop.facts):
        return "its figures cannot be"
    if not offer.trusted_as.is_enough(state.terms.trust) or not state.market.is_allowed(
        offer.host_key, state.now_s
    ):
        return "its machine is not to be rented"
    if not state.may_use(is_serverless=offer.is_serverless):
        return "the choice of fallback rules it out"
    if offer.host_key in state.hosts():
        return "another lease has its machine"
    return None
