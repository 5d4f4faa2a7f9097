"""When a run stops, and what it does then."""

from __future__ import annotations

import pytest

from nightkiln.core import end_rules
from nightkiln.core.events import (
    Cancel,
    Failed,
    FetchJobs,
    Lost,
    Offered,
    ProviderFailed,
    Queued,
    Release,
    Released,
    Started,
    Stop,
    StopRequested,
    Submit,
)
from nightkiln.core.learning import Scores
from nightkiln.core.model import Fault, Loss
from nightkiln.core.scheduler import Scheduler
from nightkiln.core.terms import DEADLINE_S_UNSAID, Late, Rules, Terms
from tests.core.table import (
    CHEAP,
    CLOUD,
    DEAR,
    FALLBACK,
    FAR,
    LOCAL,
    NEAR,
    Run,
    asked,
    billed_run,
    failed,
    free_run,
    jobs,
    machine,
    of,
    proven,
    started,
)

HOUR_S = 3600.0


def test_a_batch_without_jobs_rents_nothing_and_is_finished() -> None:
    run = Run(Scheduler(Terms("night-1", 4)))
    run.on(Started(0.0, (LOCAL,)))

    assert run.on(Queued((), is_last=True)) == []
    assert run.scheduler.is_finished


def test_a_run_is_not_finished_before_its_last_machine_is_given_back() -> None:
    run = free_run(NEAR, count=1)

    [release] = of(Release, run.done(run.submits[0]))

    is_finished = [run.scheduler.is_finished]
    run.on(Released(release.lease_id))
    is_finished.append(run.scheduler.is_finished)
    assert is_finished == [False, True]
    assert run.scheduler.stop_reason is None


def test_a_free_machine_waits_for_the_last_job_in_case_it_fails_elsewhere() -> None:
    run = free_run(NEAR, FAR, count=3)
    [first, second], [last] = run.given_to(NEAR), run.given_to(FAR)
    run.done(first)

    assert of(Release, run.done(second)) == []
    assert len(of(Release, run.done(last))) == 2


def test_a_stop_finishes_what_runs_and_hands_out_nothing_more() -> None:
    run = free_run(NEAR, count=9)
    first, second = run.submits

    assert run.on(StopRequested(is_now=False, reason="asked")) == []
    assert run.done(first) == []
    [release] = of(Release, run.done(second))
    run.on(Released(release.lease_id))

    assert run.scheduler.is_finished
    assert run.scheduler.stop_reason == "asked"


def test_a_stop_sends_back_what_is_still_coming_up() -> None:
    run = started(Terms("night-1", 4), LOCAL, count=9)
    [rent] = run.offered(NEAR)

    released = of(Release, run.on(StopRequested(is_now=False, reason="asked")))

    assert [each.lease_id for each in released] == [rent.lease_id]


def test_a_stop_now_hands_running_jobs_back_without_blame() -> None:
    run = free_run(NEAR, count=9)

    cancels = of(Cancel, run.on(StopRequested(is_now=True, reason="asked")))
    for cancel in cancels:
        run.on(Failed(cancel.attempt_id, Fault.MARKET, "cancelled", ""))
    [release] = of(Release, run.log)
    run.on(Released(release.lease_id))

    assert {each.attempt_id for each in cancels} == {each.attempt_id for each in run.submits}
    assert run.scheduler.is_finished
    assert run.scheduler.state.failed == 0


def test_the_second_request_to_stop_may_be_more_urgent_but_the_first_reason_stays() -> None:
    run = free_run(NEAR, count=9)
    run.on(StopRequested(is_now=False, reason="first"))

    assert len(of(Cancel, run.on(StopRequested(is_now=True, reason="second")))) == 2
    assert run.scheduler.stop_reason == "first"


def test_when_the_first_jobs_all_fail_the_run_stops_before_burning_the_catalog() -> None:
    run = free_run(NEAR, FAR, count=1000)
    for count in range(1, end_rules.FIRST_FAILURES_MAX + 1):
        assert of(Stop, run.log) == []
        attempt_id = next(iter(run.scheduler.state.trying))
        run.on(Failed(attempt_id, Fault.JOB, f"kind {count}", f"error{count}"))

    [stop] = of(Stop, run.log)
    assert "catalog" in stop.reason


def test_failures_after_a_success_stop_nothing() -> None:
    run = free_run(NEAR, FAR, count=1000)
    run.done(run.submits[0])
    for _ in range(3 * end_rules.FIRST_FAILURES_MAX):
        run.on(Failed(next(iter(run.scheduler.state.trying)), Fault.JOB, "rejected", "no"))

    assert of(Stop, run.log) == []


def test_the_same_failure_on_three_machines_and_no_success_is_ours() -> None:
    run = started(Terms("night-1", 5, jobs=3000, deadline_s=HOUR_S), CLOUD, count=3000)
    rents = run.offered(*(machine(f"gpu-{number}") for number in range(12)))

    for number, rent in enumerate(rents[: end_rules.ALIKE_MAX]):
        assert of(Stop, run.log) == []
        submit = run.up(rent)[0]
        error = f"no module named insightface on host-{number}"
        run.on(failed(submit, Fault.UNKNOWN, "exception", error))

    [stop] = of(Stop, run.log)
    assert "no module named insightface" in stop.reason
    assert not run.scheduler.state.market.blocked


def test_different_failures_on_three_machines_are_not_ours() -> None:
    run = started(Terms("night-1", 8, jobs=3000, deadline_s=HOUR_S), CLOUD, count=3000)
    rents = run.offered(*(machine(f"gpu-{number}") for number in range(12)))

    for rent, word in zip(rents, ("one", "two", "three"), strict=False):
        run.on(failed(run.up(rent)[0], Fault.UNKNOWN, "exception", word))

    assert of(Stop, run.log) == []


@pytest.mark.parametrize(
    ("scores", "most"), [(Scores(), end_rules.ALIKE_MAX), (proven(), end_rules.STARTS_ALIKE_MAX)]
)
def test_machines_that_fail_to_start_in_the_same_way_are_ours(scores: Scores, most: int) -> None:
    rules = Rules(canary_leases_max=5)
    terms = Terms("night-1", 5, jobs=3000, deadline_s=HOUR_S, rules=rules)
    run = started(terms, CLOUD, count=3000, scores=scores)
    rents = run.offered(*(machine(f"gpu-{number}") for number in range(12)))

    for rent in rents[:most]:
        assert of(Stop, run.log) == []
        run.on(Lost(rent.lease_id, "image not found", Loss.STARTUP))

    [stop] = of(Stop, run.log)
    assert "image not found" in stop.reason


def test_of_thirty_machines_a_few_fail_alike_by_chance() -> None:
    run = started(Terms("night-1", 30, jobs=30_000, deadline_s=HOUR_S), CLOUD, count=30_000)
    rents = run.offered(*(machine(f"gpu-{number}") for number in range(30)))

    for rent in rents[: end_rules.STARTS_ALIKE_MAX]:
        run.on(Lost(rent.lease_id, "image not found", Loss.STARTUP))

    assert len(rents) == 30
    assert of(Stop, run.log) == []


@pytest.mark.parametrize(("scores", "stops"), [(proven(), 0), (Scores(), 1)])
def test_starts_that_only_take_too_long_are_ours_where_nothing_ever_rendered(
    scores: Scores, stops: int
) -> None:
    rules = Rules(canary_leases_max=5)
    terms = Terms("night-1", 5, jobs=3000, deadline_s=HOUR_S, rules=rules)
    run = started(terms, CLOUD, count=3000, scores=scores)
    rents = run.offered(*(machine(f"gpu-{number}") for number in range(12)))

    for rent in rents[: end_rules.ALIKE_MAX]:
        run.on(Lost(rent.lease_id, "nothing answered", Loss.SLOW))

    assert len(of(Stop, run.log)) == stops


def test_starts_that_the_deadline_cut_short_say_nothing() -> None:
    rules = Rules(canary_leases_max=5)
    terms = Terms("night-1", 5, jobs=300, deadline_s=HOUR_S / 6, rules=rules)
    run = started(terms, CLOUD, count=300)
    rents = run.offered(*(machine(f"gpu-{number}") for number in range(12)))

    for rent in rents[: end_rules.ALIKE_MAX]:
        run.on(Lost(rent.lease_id, "nothing answered", Loss.SLOW))

    assert len(rents) >= end_rules.ALIKE_MAX
    assert of(Stop, run.log) == []


def test_starts_that_fail_alike_say_nothing_once_a_machine_came_up() -> None:
    run = started(Terms("night-1", 8, jobs=3000, deadline_s=HOUR_S), CLOUD, count=3000)
    [good, *rents] = run.offered(*(machine(f"gpu-{number}") for number in range(12)))
    run.up(good)

    for rent in rents[: end_rules.ALIKE_MAX]:
        run.on(Lost(rent.lease_id, "image not found", Loss.STARTUP))

    assert of(Stop, run.log) == []


def test_without_any_machine_of_ones_own_the_run_waits_for_a_while_and_then_says_so() -> None:
    run = started(Terms("night-1", 4), LOCAL, count=3)
    run.on(Offered("local", ()))

    assert of(Stop, run.tick(end_rules.PATIENCE_S)) == []
    [stop] = of(Stop, run.tick(1))
    assert "is one running?" in stop.reason


def test_a_market_that_offers_nothing_is_waited_for() -> None:
    run = started(Terms("night-1", 4, jobs=3), CLOUD, count=3)
    run.on(Offered("cloud", ()))

    assert of(Stop, run.wait(10 * end_rules.PATIENCE_S)) == []


def test_at_the_deadline_the_run_stops_and_finishes_what_runs() -> None:
    run = billed_run(CHEAP, count=9000, deadline_s=HOUR_S)
    running = list(run.scheduler.state.trying)

    assert of(Stop, run.wait(HOUR_S - 1)) == []
    commands = run.tick(1)

    [stop] = of(Stop, commands)
    assert "deadline" in stop.reason
    assert of(Submit, run.done(run.submits[0])) == []
    assert set(running) - {run.submits[0].attempt_id} <= set(run.scheduler.state.trying)


def test_the_deadline_stops_also_a_run_with_one_job_left() -> None:
    run = billed_run(CHEAP, count=1, deadline_s=HOUR_S)

    assert len(of(Stop, run.wait(HOUR_S))) == 1


def test_late_finish_goes_on_after_the_deadline_as_cheap_as_can_be() -> None:
    terms = Terms("night-1", 8, jobs=900, deadline_s=HOUR_S, late=Late.FINISH)
    run = started(terms, CLOUD, count=900)

    run.tick(2 * HOUR_S)
    rents = run.offered(CHEAP, DEAR)

    assert of(Stop, run.log) == []
    assert [rent.offer.ref for rent in rents] == ["cheap"]


@pytest.mark.parametrize("deadline_s", [-5.0, 0.0])
def test_a_deadline_in_the_past_stops_before_anything_is_rented(deadline_s: float) -> None:
    run = started(Terms("night-1", 8, jobs=9, deadline_s=deadline_s), CLOUD, count=9)

    assert run.offered(CHEAP) == []
    assert len(of(Stop, run.log)) == 1
    assert run.scheduler.is_finished


def test_a_deadline_that_nobody_named_is_no_reason_to_stop_or_to_rent_no_more() -> None:
    run = started(Terms("night-1", 8, jobs=9), CLOUD, count=9)

    run.tick(DEADLINE_S_UNSAID + 1)

    assert len(run.offered(CHEAP)) == 1
    assert of(Stop, run.log) == []


def test_a_catalog_of_a_million_jobs_is_fetched_bit_by_bit() -> None:
    terms = Terms("night-1", 50, jobs=1_000_000, deadline_s=8 * HOUR_S)
    run = Run(Scheduler(terms, scores=proven()))
    [fetch] = of(FetchJobs, run.on(Started(0.0, (CLOUD,))))
    run.on(Queued(jobs(fetch.count_max), is_last=False))

    rents = run.offered(*(machine(f"gpu-{number}") for number in range(512)))
    for rent in rents:
        run.up(rent)
    while len(of(FetchJobs, run.log)) == 1:
        run.done_by_all(6.0)

    assert len({rent.offer.host_key for rent in rents}) == len(rents) == 50
    assert len(run.submits) < fetch.count_max  # no machine has run dry


def silent(terms: Terms) -> Run:
    """A run of which nobody wants to know anything."""
    run = started(terms, CLOUD, FALLBACK, count=5)
    for name in ("cloud", "functions"):
        run.on(ProviderFailed(name, f"{name} is away"))
    return run


def until_a_stop(run: Run, most_s: float) -> Stop | None:
    """Everybody who is asked fails."""
    for _ in range(int(most_s / 20)):
        commands = run.tick(20)
        for provider in asked(commands):
            commands += run.on(ProviderFailed(provider, f"{provider} is away"))
        if stops := of(Stop, commands):
            return stops[0]
    return None


def test_a_run_without_a_deadline_stops_when_nobody_has_answered_for_an_hour() -> None:
    run = silent(Terms("night-1", 4, jobs=5))

    stop = until_a_stop(run, 2 * HOUR_S)

    assert stop is not None
    assert run.now_s == pytest.approx(Rules().silence_s, abs=60)
    assert "(cloud is away; functions is away); 5 jobs are left" in stop.reason
    assert run.scheduler.is_finished


def test_until_its_deadline_a_run_waits_for_somebody_to_answer() -> None:
    run = silent(Terms("night-1", 4, jobs=5, deadline_s=3 * HOUR_S))

    assert until_a_stop(run, 3 * HOUR_S - 60) is None
    stop = until_a_stop(run, 120)

    assert stop is not None
    assert "nobody answered at last (cloud is away; functions is away)" in stop.reason


def test_one_who_answers_is_enough_to_go_on() -> None:
    run = silent(Terms("night-1", 4, jobs=5))
    run.on(Offered("functions", ()))

    assert of(Stop, run.wait(HOUR_S / 2)) == []
    assert until_a_stop(run, HOUR_S / 3) is None
