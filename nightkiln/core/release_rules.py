"""When a lease goes: it is bad, not needed any more, or at the end of its life."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from nightkiln.core.events import Command, Release
from nightkiln.core.recording import DOUBTS_MAX, avoid
from nightkiln.core.renting import RELEASE_AHEAD_S
from nightkiln.core.routing import RETRY_SCAN_MAX
from nightkiln.core.state import Held, Phase, State
from nightkiln.core.stranded import known_places

DOUBTS_SHARE_MAX = 0.05  # of the jobs done there: an ordinary share of failures is 0.3 %
MACHINE_FAULTS_MAX = 3  # in a row on one lease, with no success between


def let_go(state: State) -> Iterator[Command]:
    """Release every lease that has a reason to go."""
    yield from _let_go(state, list(state.leases.values()))
    state.suspects.clear()


def let_suspects_go(state: State) -> Iterator[Command]:
    """The same for those only that something has happened to."""
    suspects = sorted(state.suspects & state.leases.keys())
    yield from _let_go(state, [state.leases[lease_id] for lease_id in suspects])
    state.suspects.clear()


def _let_go(state: State, leases: Sequence[Held]) -> Iterator[Command]:
    for held in leases:
        if held.phase is Phase.RELEASING:
            continue
        yield from _blame(state, held)
        reason = _reason(state, held)
        if reason is not None:
            held.phase = Phase.RELEASING
            state.is_fleet_dirty = True
            yield Release(held.id, reason)


def _blame(state: State, held: Held) -> Iterator[Command]:
    """Is the machine bad? Three faults in a row, or failing at what others did well."""
    # A node fails now and then on any machine: bad is who fails far more often than that.
    doubts = state.doubts.get(held.offer.host_key, 0)
    is_doubted = doubts >= DOUBTS_MAX and doubts > DOUBTS_SHARE_MAX * held.done
    is_failing = held.faults_in_a_row >= MACHINE_FAULTS_MAX
    if held.phase is Phase.ASKED or not (held.is_useless or is_doubted or is_failing):
        return
    if held.is_bad:
        return
    held.is_bad = True
    if is_failing:
        held.error = f"{held.faults_in_a_row} failures in a row, the last: {held.error}"
    elif is_doubted:
        held.error = "it failed at jobs that others did well"
    yield from avoid(state, held, "bad")


def _reason(state: State, held: Held) -> str | None:
    if held.is_bad:
        return held.error
    if not held.offer.trusted_as.is_enough(state.terms.trust):
        return "nothing of this catalog may be rendered there"  # rented when it asked for less
    if not held.offer.is_free and held.expires_s - state.now_s <= RELEASE_AHEAD_S:
        return "its life is over, and it was not extended"
    if any(not state.trying[attempt_id].is_moot for attempt_id in held.running):
        return None
    return held.error if held.phase is Phase.DRAINING else _reason_of_idle(state, held)


def _reason_of_idle(state: State, held: Held) -> str | None:
    if state.is_stopping:
        return "the run stops"
    if state.queue.has_for(held.offer, state.spares) or not state.queue.is_exhausted:
        return None
    if _is_in_the_way(state, held):
        return "what waits failed here, and needs another machine"
    return None if state.has_use_for(held.offer) or _waits(state, held) else "no work left"


def _is_in_the_way(state: State, held: Held) -> bool:
    """Whether all that waits failed on this idle machine, whose place or money is needed."""
    queue = state.queue
    if not queue:
        return False
    if not held.offer.is_free and queue.open == len(queue):
        return True  # nothing runs that could yet come to it
    if len(state.leases) < state.terms.leases_max:
        return False
    ours = state.hosts()
    others = [offer for offer in known_places(state) if offer.host_key not in ours]
    waiting = islice(queue.again, RETRY_SCAN_MAX)
    return any(queue.may_run(job_id, offer) for job_id in waiting for offer in others)


def _waits(state: State, held: Held) -> bool:
    """Whether an idle lease stays until the last job is settled, in case that one fails.

    Those that cost nothing all do; of the others one is enough.
    """
    if held.offer.is_free or not state.queue.open:
        return bool(state.queue.open)
    idle = [each for each in state.with_phase(Phase.READY) if not each.running]
    return held is min(idle, key=lambda each: (each.offer.usd_per_hour, each.id), default=None)
