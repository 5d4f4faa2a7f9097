"""What the end of an attempt says: of its job, of its machine, and of who else is at that job."""

from __future__ import annotations

from collections.abc import Iterator

from nightkiln.core.events import Cancel, Command, Failed, GiveUp, Rendered
from nightkiln.core.faults import Failure, Tries, verdict
from nightkiln.core.model import AttemptId, Fault, Host, JobId
from nightkiln.core.state import Held, Phase, State, Trying

USELESS_KINDS = frozenset({"disk_full", "unfit"})  # the next job would fail there, too
HANG = "hang"
LATE_MAX = 4096  # lost attempts that are remembered, for their results may be on the way


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
    if not held.running:
        state.suspects.add(held.id)  # it may go
    return trying, held


def rendered(state: State, event: Rendered) -> Iterator[Command]:
    """A verified result: of a job, and of a machine that works."""
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
            state.doubts[host] = state.doubts.get(host, 0) + 1  # it may be one too many
            state.suspects.update(state.leases_on(host))


def failed(state: State, event: Failed) -> Iterator[Command]:
    """A failure: held against whom its fault says, and tried again where that may help."""
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
        count_alike(state, state.alike, f"{failure.kind} {failure.error}", held.offer.host_key)
    state.suspects.add(held.id)
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
        is_stranded = not any(tries.allows(offer) for offer in state.places())
        state.is_fleet_dirty = state.is_fleet_dirty or is_stranded
    else:
        yield from give_up(state, job_id, final, failure.error)


def give_up(state: State, job_id: JobId, fault: Fault, error: str) -> Iterator[Command]:
    """End a job as one explained failure."""
    state.queue.settle(job_id)
    state.failed += 1
    yield GiveUp(job_id, fault, error)


def count_alike(state: State, alike: dict[str, set[Host]], said: str, host: Host) -> None:
    """One more machine that failed in this way."""
    what = signature(said)
    alike.setdefault(what, set()).add(host)
    state.said_alike[what] = said


def signature(error: str) -> str:
    """What makes two failures alike: the words, without numbers and names of machines."""
    words = [word for word in error.split() if not any(char.isdigit() for char in word)]
    return " ".join(words)[:80]


def take_back(state: State, held: Held, error: str, *, is_dead: bool) -> Iterator[Command]:
    """Everything that runs on a lease is lost with it.

    Only the job that was being rendered when a machine died may have to do with it.
    """
    fault = None if is_dead else Fault.MARKET
    for attempt_id, job_id in list(held.running.items()):
        left = _leave(state, attempt_id)
        if left is not None and not left[0].is_moot:
            state.late[attempt_id] = job_id, held.offer.host_key
            if len(state.late) > LATE_MAX:
                del state.late[next(iter(state.late))]
            yield from _return(state, job_id, held, Failure(fault, "lost", error))
        fault = Fault.MARKET
