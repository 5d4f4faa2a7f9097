"""What an event says, written into the state; the few commands that follow from nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from nightkiln.core.events import (
    Blame,
    Cancel,
    Command,
    Event,
    Failed,
    GiveUp,
    ListOwned,
    Lost,
    Offered,
    Owned,
    ProviderFailed,
    Queued,
    Release,
    Released,
    Rendered,
    Rented,
    Started,
    StopRequested,
    Tick,
)
from nightkiln.core.faults import Failure, Tries, verdict
from nightkiln.core.model import AttemptId, Fault, Host, JobId, Loss
from nightkiln.core.state import Held, Phase, State, Trying

JUMP_S = 60.0  # between two ticks: the computer slept, and leases may be gone
DOUBTS_MAX = 2  # jobs that failed here and were done elsewhere: the machine is bad
DAY_S = 86400.0
TTL_S = {"startup": DAY_S, "slow": DAY_S, "lost": DAY_S, "bad": 7 * DAY_S}
USELESS_KINDS = frozenset({"disk_full", "unfit"})  # the next job would fail there, too
HANG = "hang"


def record(state: State, event: Event) -> Iterator[Command]:
    """Take an event in."""
    match event:
        case Started() | Tick():
            yield from _time(state, event)
        case Queued() | Offered() | ProviderFailed() | StopRequested():
            _note(state, event)
        case Rented():
            yield from _rented(state, event)
        case Rendered():
            yield from _rendered(state, event)
        case Failed():
            yield from _failed(state, event)
        case Lost():
            yield from _lost(state, event)
        case Released():
            yield from _released(state, event)
        case Owned():
            yield from _owned(state, event)
        case _:
            assert_never(event)


def _time(state: State, event: Started | Tick) -> Iterator[Command]:
    if isinstance(event, Started):
        state.start(event.now_s)
        state.market.open(event.providers, {})
        return
    jump_s = event.now_s - state.now_s
    state.now_s = max(state.now_s, event.now_s)
    if jump_s > JUMP_S and state.leases:
        for shop in state.market.shops.values():
            if shop.facts.bills:
                yield ListOwned(shop.facts.name)


def _note(state: State, event: Queued | Offered | ProviderFailed | StopRequested) -> None:
    match event:
        case Queued(jobs, is_last, marks):
            state.is_fleet_dirty = state.is_fleet_dirty or not state.queue
            state.queue.add(jobs, marks)
            state.queue.is_fetching = False
            state.queue.is_exhausted = state.queue.is_exhausted or is_last
            state.dirty.update(state.leases)
        case Offered(provider, offers):
            state.market.heard(provider, offers, state.now_s)
            state.is_fleet_dirty = True
        case ProviderFailed(provider, error):
            state.market.failed(provider, error, state.now_s)
            state.is_fleet_dirty = True
        case StopRequested(is_now, reason):
            state.stop_reason = state.stop_reason if state.is_stopping else reason
            state.cancels = state.cancels or is_now


# Leases.


def _rented(state: State, event: Rented) -> Iterator[Command]:
    lease = event.lease
    held = state.leases.get(lease.id)
    if held is None:
        yield from _send_back(state, event)
    elif held.phase is Phase.ASKED:
        state.knowledge.started(held.offer, state.now_s - held.asked_s)
        held.phase, held.ready_s, held.offer = Phase.READY, state.now_s, lease.offer
        held.last_end_s = state.now_s
        state.came_up = True
        state.dirty.add(lease.id)
        state.is_fleet_dirty = True


def _send_back(state: State, event: Rented) -> Iterator[Command]:
    """A lease that nobody waits for any more: never keep paying."""
    if event.lease.id not in state.released:
        state.released.add(event.lease.id)
        yield Release(event.lease.id, "it came up after we had lost interest")


def _lost(state: State, event: Lost) -> Iterator[Command]:
    held = state.leases.get(event.lease_id)
    if held is None:
        return
    was_ready = held.phase in {Phase.READY, Phase.DRAINING}
    yield from _empty(state, held, event.error, is_dead=event.loss is Loss.LOST)
    state.is_fleet_dirty = True
    if held.phase is Phase.RELEASING or held.is_bad:
        return
    held.is_bad, held.error = True, event.error
    if was_ready:
        is_lost = event.loss in {Loss.LOST, Loss.MARKET}
        state.knowledge.held(held.offer, _hours(state, held), was_lost=is_lost)
    yield from _judge_loss(state, held, event)


def _judge_loss(state: State, held: Held, event: Lost) -> Iterator[Command]:
    """What the loss of a lease says about its machine and its provider."""
    market, offer = state.market, held.offer
    match event.loss:
        case Loss.GONE | Loss.MARKET:
            market.forget(offer)
        case Loss.REFUSED:
            market.refused(offer.provider, event.error, state.now_s)
        case Loss.STARTUP | Loss.SLOW:
            state.knowledge.boot_failed(offer)
            if event.loss is Loss.STARTUP and not state.came_up and not offer.is_free:
                state.alike.setdefault(_signature(event.error), set()).add(offer.host_key)
            yield from avoid(state, held, event.loss.value)
        case Loss.LOST:
            yield from avoid(state, held, event.loss.value)


def avoid(state: State, held: Held, cause: str) -> Iterator[Command]:
    """Do not rent this machine again for a while; one that is free gets another chance."""
    offer, state.last_trouble = held.offer, held.error
    if offer.is_free:
        state.market.strike(offer, state.now_s)
        return
    if offer.is_serverless:
        # A slot is no machine: the next container may be anywhere.
        state.market.refused(offer.provider, held.error, state.now_s)
        return
    ttl_s = TTL_S[cause]
    state.market.block(offer, ttl_s, state.now_s)
    # Blame that outlasts the night needs a witness: another machine that did the same well.
    others = state.healthy - {offer.host_key}
    if others or (state.came_up and cause in {Loss.STARTUP, Loss.SLOW}):
        provider, machine = offer.host_key
        yield Blame(provider, machine, cause, ttl_s)


def _released(state: State, event: Released) -> Iterator[Command]:
    held = state.leases.get(event.lease_id)
    if held is None:
        return
    yield from _empty(state, held, "the lease was released", is_dead=False)
    if held.phase is not Phase.ASKED and not held.is_bad and held.ready_s:
        state.knowledge.held(held.offer, _hours(state, held), was_lost=False)
    state.ledger.settle(held.id, event.usd, now_s=state.now_s)
    del state.leases[held.id]
    state.is_fleet_dirty = True


def _owned(state: State, event: Owned) -> Iterator[Command]:
    for lease_id in event.lease_ids:
        if lease_id not in state.leases and lease_id not in state.released:
            state.released.add(lease_id)
            yield Release(lease_id, "it is billed to us, and no run holds it")


def _empty(state: State, held: Held, error: str, *, is_dead: bool) -> Iterator[Command]:
    """Everything that runs on a lease is lost with it.

    Only the job that was being rendered when a machine died may have to do with it.
    """
    fault = None if is_dead else Fault.MARKET
    for attempt_id, job_id in list(held.running.items()):
        left = _leave(state, attempt_id)
        if left is not None and not left[0].is_moot:
            state.late[attempt_id] = job_id, held.offer.host_key
            yield from _return(state, job_id, held, Failure(fault, "lost", error))
        fault = Fault.MARKET


def _hours(state: State, held: Held) -> float:
    return max(0.0, state.now_s - held.ready_s) / 3600


# Attempts.


def _leave(state: State, attempt_id: AttemptId) -> tuple[Trying, Held] | None:
    """Take an attempt off its lease; None when it was already taken off."""
    trying = state.trying.pop(attempt_id, None)
    if trying is None:
        return None
    held = state.leases[trying.lease_id]
    del held.running[attempt_id]
    twins = state.attempts_of[trying.job_id]
    twins.remove(attempt_id)
    if not twins:
        del state.attempts_of[trying.job_id]
    state.dirty.add(held.id)
    if held.phase is Phase.DRAINING and not held.running:
        state.is_fleet_dirty = True  # it may go
    return trying, held


def _rendered(state: State, event: Rendered) -> Iterator[Command]:
    left = _leave(state, event.attempt_id)
    if left is None:
        yield from _rendered_late(state, event.attempt_id)
        return
    trying, held = left
    began_s = max(trying.submitted_s, held.last_end_s)
    seconds = event.seconds if event.seconds > 0 else state.now_s - began_s
    state.knowledge.rendered(held.offer, seconds)
    held.done, held.faults_in_a_row, held.last_end_s = held.done + 1, 0, state.now_s
    held.mark = state.queue.mark(trying.job_id)
    state.healthy.add(held.offer.host_key)
    state.market.pardon(held.offer)
    state.alike.clear()
    if not trying.is_moot:
        yield from _settled_well(state, trying.job_id, held.offer.host_key)


def _rendered_late(state: State, attempt_id: AttemptId) -> Iterator[Command]:
    """A result that was on its way when its lease was lost is a result, if still wanted."""
    job_id, host = state.late.pop(attempt_id, (None, None))
    if job_id is None or host is None:
        return
    if job_id in state.queue.again:
        state.queue.drop(job_id)
    elif all(state.trying[twin].is_moot for twin in state.attempts_of.get(job_id, ())):
        return  # settled by somebody else
    yield from _settled_well(state, job_id, host)


def _settled_well(state: State, job_id: JobId, winner: Host) -> Iterator[Command]:
    """The first verified result of a job counts; whoever else is at it may stop."""
    tries = state.queue.tries.get(job_id)
    state.queue.settle(job_id)
    state.done += 1
    for attempt_id in state.attempts_of.get(job_id, ()):
        twin = state.trying[attempt_id]
        twin.is_moot = True
        if not twin.is_cancelled and state.leases[twin.lease_id].phase is not Phase.RELEASING:
            twin.is_cancelled = True
            yield Cancel(twin.lease_id, attempt_id, "another machine was faster")
    if tries is not None:
        for host in tries.doubted - {winner}:
            state.doubts[host] = state.doubts.get(host, 0) + 1


def _failed(state: State, event: Failed) -> Iterator[Command]:
    left = _leave(state, event.attempt_id)
    if left is None:
        return
    trying, held = left
    held.last_end_s = state.now_s
    failure = Failure(event.fault, event.kind, event.error)
    if trying.is_overdue and failure.fault is Fault.MARKET:
        failure = Failure(Fault.MACHINE, HANG, "it took far longer than any other job")
    if failure.fault is Fault.MACHINE:
        held.faults_in_a_row += 1
        held.is_useless = held.is_useless or failure.kind in USELESS_KINDS
        held.error = failure.error
    if failure.fault is not Fault.MARKET and not state.done:
        signature = _signature(f"{failure.kind} {failure.error}")
        state.alike.setdefault(signature, set()).add(held.offer.host_key)
    state.is_fleet_dirty = True
    if not trying.is_moot:
        yield from _return(state, trying.job_id, held, failure)


def _return(state: State, job_id: JobId, held: Held, failure: Failure) -> Iterator[Command]:
    """A try is over without a result: try again, or give the job up."""
    queue = state.queue
    before = queue.tries.get(job_id, Tries())
    tries = before.after(failure, held.offer)
    if tries is not before:
        queue.tries[job_id] = tries
    if job_id in state.attempts_of:
        return  # a twin is still at it, and may yet succeed
    final = verdict(tries, failure.fault, is_healthy=state.healthy.__contains__)
    if final is None:
        queue.put_back(job_id)
        state.dirty.update(lease.id for lease in state.leases.values() if lease.has_room)
    else:
        yield from give_up(state, job_id, final, failure.error)


def give_up(state: State, job_id: JobId, fault: Fault, error: str) -> Iterator[Command]:
    """End a job as one explained failure."""
    state.queue.settle(job_id)
    state.failed += 1
    yield GiveUp(job_id, fault, error)


def _signature(error: str) -> str:
    """What makes two failures alike: the words, without numbers and names of machines."""
    words = [word for word in error.split() if not any(char.isdigit() for char in word)]
    return " ".join(words)[:80]
