"""What becomes of jobs that failed wherever they could be tried."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from nightkiln.core.attempts import give_up
from nightkiln.core.events import Command
from nightkiln.core.model import Fault, Offer
from nightkiln.core.renting import affords
from nightkiln.core.state import State

STRANDED_S_MAX = 600.0  # a job waits so long for a market to offer a machine it has not tried


def end_stranded(state: State) -> Iterator[Command]:
    """Give up jobs that failed wherever they could be tried, and have waited for another place.

    A machine of the user's own, which nobody can replace by another, gets a job again: that is
    the one exception from never trying twice in one place, and attempts are bounded there too.
    """
    if next(state.queue.stranded(()), None) is None:
        state.stranded_s.clear()
        return  # no job that failed waits for another try
    places = known_places(state)
    if not places or not state.market.has_answered(state.now_s):
        return  # a market that offers nothing is waited for
    own = frozenset(offer.host_key for offer in places if offer.is_free)
    since, now_s = state.stranded_s, state.now_s
    state.stranded_s = {job: since.get(job, now_s) for job in state.queue.stranded(places)}
    patience_s = 0.0 if state.market.is_free else STRANDED_S_MAX
    for job_id, since_s in state.stranded_s.items():
        tries = state.queue.tries[job_id]
        if tries.places & own:
            state.queue.tries[job_id] = replace(tries, places=tries.places - own)
            state.dirty.update(state.leases)
        elif now_s - since_s >= patience_s:
            state.queue.drop(job_id)
            fault = Fault.UNKNOWN if tries.doubted else Fault.MACHINE
            where = f"{len(tries.places)} machine{'s' if len(tries.places) > 1 else ''}"
            why = f"{tries.error} (failed on {where}, and there is no other to try it on)"
            yield from give_up(state, job_id, fault, why)


def known_places(state: State) -> Sequence[Offer]:
    """Machines that a job could still be tried on, now or when a cool-down is over; affordable."""
    ours = [held.offer for held in state.leases.values() if not held.is_bad]
    market = state.market
    return ours + [
        offer
        for offer in market.known()
        if state.may_use(is_serverless=offer.is_serverless)
        and not market.is_struck_out(offer)
        and (offer.is_free or _is_to_be_had(state, offer))
    ]


def _is_to_be_had(state: State, offer: Offer) -> bool:
    return state.market.is_allowed(offer.host_key, state.now_s) and affords(state, offer)
