"""What to render where: keep machines filled, and what is slow or stuck from holding up the end."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from nightkiln.core.events import Cancel, Command, FetchJobs, Submit
from nightkiln.core.model import AttemptId, JobId, LeaseId
from nightkiln.core.routing import RETRY_SCAN_MAX
from nightkiln.core.state import Held, Phase, State, Trying

QUEUE_LOW = 256  # fewer waiting jobs than this: fetch more, before a machine runs dry
FETCH_MAX = 1024  # jobs asked for at once; bounds what is held in memory
UNPROVEN_LIMIT_S = 3600.0  # for one job, while nobody knows how long this workflow takes


def fetch(state: State) -> Iterator[Command]:
    """Have jobs at hand before a machine runs dry."""
    queue = state.queue
    if len(queue) < QUEUE_LOW and not queue.is_exhausted and not queue.is_fetching:
        queue.is_fetching = True
        yield FetchJobs(FETCH_MAX)


def fill(state: State) -> Iterator[Command]:
    """Give work to machines with room; only those that may have got some are looked at."""
    state.dirty.update(_may_be_spared_no_more(state))
    for lease_id in sorted(state.dirty):
        held = state.leases.get(lease_id)
        if held is None or not held.is_open:
            continue
        while held.has_room:
            job_id = state.queue.take(held.offer, held.mark, state.spares)
            if job_id is None:
                break
            yield submit(state, held, job_id)
    state.dirty.clear()


def _may_be_spared_no_more(state: State) -> Iterator[LeaseId]:
    """Containers with room while a job waits that only a machine gets as long as there is one."""
    tries, waiting = state.queue.tries, islice(state.queue.again, RETRY_SCAN_MAX)
    if any(tries[job_id].is_doubtful for job_id in waiting if job_id in tries):
        yield from (held.id for held in state.leases.values() if held.offer.is_serverless)


def submit(state: State, held: Held, job_id: JobId) -> Submit:
    """Hand a job out."""
    attempt_id = AttemptId(f"{state.terms.run_label}-{state.attempts_count:07d}")
    state.attempts_count += 1
    held.running[attempt_id] = job_id
    if len(held.running) == 1:
        held.mark = state.queue.mark(job_id)
    state.trying[attempt_id] = Trying(held.id, job_id, state.now_s)
    state.attempts_of.setdefault(job_id, []).append(attempt_id)
    return Submit(held.id, job_id, attempt_id)


def cancel(state: State, attempt_id: AttemptId, reason: str) -> Cancel:
    """Take an attempt back; it is asked for once."""
    trying = state.trying[attempt_id]
    assert not trying.is_cancelled
    trying.is_cancelled = True
    return Cancel(trying.lease_id, attempt_id, reason)


def limit(state: State) -> Iterator[Command]:
    """Take back what hangs: a multiple of the learned 99th percentile, not a constant.

    Only the head of a machine's queue renders; the others wait for it.
    """
    rules = state.terms.rules
    for held in state.with_phase(Phase.READY, Phase.DRAINING):
        head = next(iter(held.running), None)
        if head is None or state.trying[head].is_cancelled:
            continue
        limit_s = UNPROVEN_LIMIT_S
        if state.is_proven:
            p99_s = state.knowledge.job_p99_s(held.offer)
            limit_s = max(rules.job_limit_s_min, rules.job_limit_factor * p99_s)
        if _elapsed_s(state, held, head) > limit_s:
            state.trying[head].is_overdue = True
            yield cancel(state, head, f"it takes longer than {limit_s:.0f} s")


def _elapsed_s(state: State, held: Held, head: AttemptId) -> float:
    return state.now_s - max(state.trying[head].submitted_s, held.last_end_s)


def shorten_tail(state: State) -> Iterator[Command]:
    """At the end, give idle machines what waits behind others, then what is slow elsewhere."""
    if state.queue or not state.queue.is_exhausted or not state.trying:
        return
    for held in list(state.with_phase(Phase.READY)):
        if held.is_bad or held.running or not held.has_room:
            continue
        waiting = _longest_wait(state, held)
        if waiting is not None:
            # Handed over at once: the other machine may be too dead to answer.
            job_id = state.trying[waiting].job_id
            yield cancel(state, waiting, "an idle machine can start it sooner")
            yield submit(state, held, job_id)
        elif state.terms.rules.hedges:
            slow = _slowest(state, held)
            if slow is not None:
                yield submit(state, held, state.trying[slow].job_id)


def _longest_wait(state: State, idle: Held) -> AttemptId | None:
    """The last job of the longest queue, if the idle machine would be done with it sooner."""
    best, best_s = None, state.knowledge.pace(idle.offer)[0] + state.terms.rules.tail_s_min
    for held in state.with_phase(Phase.READY, Phase.DRAINING):
        waiting = [each for each in list(held.running)[1:] if _is_alone(state, each)]
        if not waiting:
            continue
        head_s = _elapsed_s(state, held, next(iter(held.running)))
        wait_s = max(head_s, state.knowledge.pace(held.offer)[0]) * len(waiting)
        may_run = _may_have(state, waiting[-1], idle)
        if wait_s > best_s and may_run:
            best, best_s = waiting[-1], wait_s
    return best


def _may_have(state: State, attempt_id: AttemptId, idle: Held) -> bool:
    """Whether an idle machine may have a job that another one is at."""
    job_id = state.trying[attempt_id].job_id
    return state.queue.may_run(job_id, idle.offer) and not state.spares(job_id, idle.offer)


def _is_alone(state: State, attempt_id: AttemptId) -> bool:
    """Whether nobody else is at this job, and nobody has asked for it back."""
    trying = state.trying[attempt_id]
    return not trying.is_cancelled and len(state.attempts_of[trying.job_id]) == 1


def _slowest(state: State, idle: Held) -> AttemptId | None:
    """A running job, rendered nowhere else, that the idle machine would be done with sooner.

    One that takes longer than its 95th percentile may take for ever; of any other, a slow
    machine needs what is left of the time that it usually takes. Just before the deadline the
    last one to be done is doubled in any case: its machine could not be replaced.
    """
    rules, knowledge = state.terms.rules, state.knowledge
    best, best_s = None, knowledge.pace(idle.offer)[0] + rules.tail_s_min
    if 0 < state.deadline_s - state.now_s < rules.last_s:
        best_s = 0.0
    for held in state.with_phase(Phase.READY, Phase.DRAINING):
        head = next(iter(held.running), None)
        if head is None or held.offer.host_key == idle.offer.host_key:
            continue
        over_s, expected_s = _elapsed_s(state, held, head), knowledge.pace(held.offer)[0]
        is_slow = over_s > max(rules.hedge_factor * expected_s, expected_s + rules.tail_s_min)
        left_s = over_s if is_slow else expected_s - over_s  # as much again, as far as one knows
        may_run = _may_have(state, head, idle)
        if left_s > best_s and may_run and _is_alone(state, head):
            best, best_s = head, left_s
    return best
