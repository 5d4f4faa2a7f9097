"""What keeps machines busy to the end: limits, handing over, second tries, affinity."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from nightkiln.core import job_rules
from nightkiln.core.events import (
    Cancel,
    Failed,
    GiveUp,
    Queued,
    Started,
    Submit,
)
from nightkiln.core.model import Fault, JobId
from nightkiln.core.scheduler import Scheduler
from nightkiln.core.terms import Rules, Terms
from tests.core.table import (
    FAR,
    LOCAL,
    NEAR,
    Run,
    free_run,
    of,
    proven,
    started,
)


def test_a_job_that_hangs_is_taken_back_after_a_multiple_of_the_learned_time() -> None:
    run = free_run(NEAR, FAR, count=60)
    for _ in range(20):
        run.tick(6)
        run.done(run.given_to(FAR)[-2], 6.0)
    stuck = run.given_to(NEAR)[0]

    before = run.tick(0)
    limit_s = Rules().job_limit_factor * run.scheduler.state.knowledge.job_p99_s(NEAR)
    after = run.wait(max(0.0, limit_s - run.now_s) + 2, step_s=1.0)

    cancelled = [each for each in of(Cancel, run.log) if each.attempt_id == stuck.attempt_id]
    assert len(cancelled) == 1
    assert limit_s < job_rules.UNPROVEN_LIMIT_S
    assert before is not None
    assert after is not None
    commands = run.on(Failed(stuck.attempt_id, Fault.MARKET, "cancelled", ""))
    assert run.scheduler.state.queue.tries[stuck.job_id].failures == 1
    assert of(GiveUp, commands) == []


def test_an_idle_machine_takes_what_waits_behind_a_slow_one_at_the_end() -> None:
    run = free_run(NEAR, FAR, count=4)
    [_, waiting] = run.given_to(NEAR)
    for submit in run.given_to(FAR):
        run.tick(3)
        run.done(submit, 3.0)

    commands = run.tick(20)

    assert [each.attempt_id for each in of(Cancel, commands)] == [waiting.attempt_id]
    [again] = of(Submit, commands)
    assert (again.job_id, again.lease_id) == (waiting.job_id, run.lease_on(FAR))


def test_a_slow_job_is_rendered_a_second_time_and_the_first_result_wins() -> None:
    run = free_run(replace(NEAR, slots=1), replace(FAR, slots=1), count=2)
    slow, quick = run.submits
    run.tick(6)
    run.done(quick)

    [hedge] = of(Submit, run.wait(20))
    commands = run.done(hedge)

    assert hedge.job_id == slow.job_id
    assert hedge.lease_id != slow.lease_id
    assert [each.attempt_id for each in of(Cancel, commands)] == [slow.attempt_id]
    assert run.scheduler.state.done == 2


def test_nothing_is_rendered_twice_while_the_catalog_has_more_to_give() -> None:
    run = Run(Scheduler(Terms("night-1", 4), scores=proven()))
    run.on(Started(0.0, (LOCAL,)))
    run.on(Queued((JobId("slow"), JobId("quick")), is_last=False))
    for rent in run.offered(replace(NEAR, slots=1), replace(FAR, slots=1)):
        run.up(rent)
    run.tick(6)
    run.done(run.submits[1])

    before = of(Submit, run.wait(20))
    run.on(Queued((), is_last=True))

    assert before == []
    assert [each.job_id for each in of(Submit, run.tick(1))] == ["slow"]


def test_a_job_that_takes_no_longer_than_expected_is_rendered_once() -> None:
    run = free_run(replace(NEAR, slots=1), replace(FAR, slots=1), count=2)
    run.tick(6)
    run.done(run.submits[1])

    assert run.tick(0.9 * 6 * (Rules().hedge_factor - 1)) == []


def test_the_slowest_job_is_the_one_that_is_rendered_again() -> None:
    third = replace(NEAR, ref="http://third", slots=1)
    run = free_run(replace(NEAR, slots=1), replace(FAR, slots=1), third, count=4)
    quick, slow, _ = run.submits
    run.tick(6)
    [later] = of(Submit, run.done(quick))
    run.done(run.submits[2])

    [hedge] = of(Submit, run.wait(24, step_s=2.0))[:1]

    assert later.job_id != slow.job_id
    assert hedge.job_id == slow.job_id


def test_an_idle_machine_doubles_what_a_slow_one_would_be_at_for_longer() -> None:
    """As slow as ever, so nothing hangs; the other one is just done with it much sooner."""
    slow, quick = replace(NEAR, slots=1), replace(FAR, slots=1)
    run = free_run(slow, quick, count=12)
    for _ in range(5):
        run.tick(6)
        run.done(run.given_to(quick)[-1], 6.0)
        run.tick(54)
        run.done(run.given_to(slow)[-1], 60.0)
    run.tick(6)

    [hedge] = of(Submit, [*run.done(run.given_to(quick)[-1], 6.0), *run.tick(1)])

    assert hedge.job_id == run.given_to(slow)[-1].job_id
    assert hedge.lease_id == run.lease_on(quick)


def test_just_before_the_deadline_the_last_job_is_doubled_in_any_case() -> None:
    submits = []
    for left_s in (2 * Rules().last_s, Rules().last_s - 10):
        near, far = replace(NEAR, slots=1), replace(FAR, slots=1)
        terms = Terms("night-1", 4, jobs=2, deadline_s=left_s)
        run = started(terms, LOCAL, count=2)
        for rent in run.offered(near, far):
            run.up(rent)
        run.tick(3)
        run.done(run.submits[1])
        submits.append(of(Submit, run.tick(1)))

    assert [len(each) for each in submits] == [0, 1]


def test_jobs_for_the_same_checkpoint_follow_one_another() -> None:
    run = Run(Scheduler(Terms("night-1", 4), scores=proven()))
    run.on(Started(0.0, (LOCAL,)))
    marks = ("anime", "photo") * 4
    run.on(Queued(tuple(JobId(f"{mark}-{n}") for n, mark in enumerate(marks)), True, marks))
    for rent in run.offered(NEAR, FAR):
        run.up(rent)
    for _ in range(2):
        for submit in list(run.submits[-2:]):
            run.done(submit)

    for offer in (NEAR, FAR):
        given = [submit.job_id.split("-")[0] for submit in run.given_to(offer)]
        changes = sum(one != other for one, other in pairwise(given))
        assert changes <= 1
