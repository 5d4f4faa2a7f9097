"""The life of a lease: its start, its end, and what outlives its run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nightkiln.core import recording
from nightkiln.core.events import (
    Cancel,
    Extend,
    ListOwned,
    Lost,
    Owned,
    Release,
    Released,
    Rendered,
    Rented,
    Submit,
)
from nightkiln.core.model import Kind, Lease, LeaseId, Loss
from nightkiln.core.terms import Rules, Terms
from tests.core.table import (
    CHEAP,
    CLOUD,
    FAR,
    NEAR,
    billed_run,
    free_run,
    machine,
    of,
    started,
)

HOUR_S = 3600.0


def test_a_start_is_given_a_multiple_of_what_starts_usually_take() -> None:
    run = started(Terms("night-1", 8, jobs=5), CLOUD, count=5)
    [rent] = run.offered(CHEAP)

    rules, expected_s = Rules(), run.scheduler.state.knowledge.startup(CHEAP)[0]

    limit_s = rules.boot_factor * expected_s + rules.boot_extra_s
    assert rent.offer.startup_s == min(limit_s, rules.boot_s_max)


def test_slow_starts_are_learned_from_and_waited_for_longer() -> None:
    run = started(Terms("night-1", 8, jobs=5), CLOUD, count=5)
    knowledge = run.scheduler.state.knowledge
    before_s = knowledge.startup(CHEAP)[0]

    for number in range(10):
        knowledge.started(machine(f"gpu-{number}"), 2 * before_s)

    assert before_s * 1.4 < knowledge.startup(CHEAP)[0] < before_s * 2


def test_a_lease_is_extended_before_its_life_ends() -> None:
    run = billed_run(CHEAP, count=5000, deadline_s=20 * HOUR_S)
    lease = run.scheduler.state.leases[run.lease_on(CHEAP)]
    expires_s = lease.expires_s

    run.wait(expires_s - Rules().extend_before_s + 60)

    extends = of(Extend, run.log)
    assert [each.lease_id for each in extends] == [lease.id]
    assert extends[0].expires_at_s == expires_s + Rules().lease_s


def test_after_a_sleep_of_the_computer_it_is_asked_what_is_still_billed() -> None:
    run = started(Terms("night-1", 8, jobs=50), replace(CLOUD, can_list=True), count=50)
    run.on(Owned("cloud", ()))
    for rent in run.offered(CHEAP):
        run.up(rent)

    commands = run.tick(recording.JUMP_S + 1)

    assert [type(each).__name__ for each in commands[:1]] == ["ListOwned"]
    stranger = LeaseId("night-0-lease-007")
    released = run.on(Owned("cloud", (run.lease_on(CHEAP), stranger)))
    assert [each.lease_id for each in of(Release, released)] == [stranger]
    assert run.on(Owned("cloud", (stranger,))) == []


def test_a_provider_that_cannot_list_is_not_asked_after_a_sleep_either() -> None:
    run = billed_run(CHEAP, count=50)

    assert of(ListOwned, run.tick(recording.JUMP_S + 1)) == []


def test_a_machine_that_comes_up_after_we_lost_interest_is_released_once() -> None:
    run = billed_run(CHEAP, count=1)
    lease = Lease(run.lease_on(CHEAP), CHEAP)
    run.on(Lost(lease.id, "gone"))
    run.on(Released(lease.id))

    first, again = run.on(Rented(lease)), run.on(Rented(lease))

    assert [each.lease_id for each in of(Release, first)] == [lease.id]
    assert of(Release, again) == []


def test_a_result_that_was_on_its_way_when_its_machine_was_lost_counts() -> None:
    run = free_run(NEAR, FAR, count=4)
    first, second = run.given_to(NEAR)
    run.on(Lost(first.lease_id, "gone"))
    others = run.given_to(FAR)

    commands = run.done(second)
    for submit in others:
        commands += run.done(submit)

    assert second.job_id not in {submit.job_id for submit in of(Submit, commands)}
    assert run.scheduler.state.done == 3


def test_a_late_result_of_a_job_that_is_settled_changes_nothing() -> None:
    run = free_run(NEAR, FAR, count=3)
    first, _ = run.given_to(NEAR)
    run.on(Lost(first.lease_id, "gone"))
    run.done(run.given_to(FAR)[0])
    again = next(each for each in run.given_to(FAR) if each.job_id == first.job_id)
    run.done(again)

    assert run.on(Rendered(first.attempt_id)) == []
    assert run.scheduler.state.done == 2


def test_of_two_late_results_of_one_job_the_first_counts() -> None:
    third = replace(NEAR, ref="http://third")
    run = free_run(NEAR, FAR, third, count=3)
    first, second = run.given_to(NEAR)[0], None
    run.on(Lost(first.lease_id, "gone"))
    for submit in list(run.submits):
        if submit.lease_id != first.lease_id and submit.job_id != first.job_id:
            run.done(submit)
    second = next(each for each in run.submits[1:] if each.job_id == first.job_id)
    third_try = run.on(Lost(second.lease_id, "gone, too"))
    before = run.scheduler.state.done

    run.done(first)
    run.done(second)

    assert run.scheduler.state.done == before + 1
    assert third_try


def test_a_late_result_ends_the_try_that_replaced_it() -> None:
    run = free_run(NEAR, FAR, count=3)
    first, second = run.given_to(NEAR)
    run.on(Lost(first.lease_id, "gone"))
    commands = run.done(run.given_to(FAR)[0])
    replaced = {submit.job_id: submit for submit in of(Submit, run.log)[3:]}

    commands = run.done(first)

    again = replaced[first.job_id]
    assert [cancel.attempt_id for cancel in of(Cancel, commands)] == [again.attempt_id]
    assert second.job_id in run.scheduler.state.queue.waiting() or second.job_id in replaced


@pytest.mark.parametrize(
    ("loss", "events"), [(Loss.GONE, None), (Loss.REFUSED, None), (Loss.MARKET, 1), (Loss.SLOW, 0)]
)
def test_what_becomes_of_a_bid_that_is_not_up_yet_is_learned_from(
    loss: Loss, events: int | None
) -> None:
    run = started(Terms("night-1", 8, jobs=500), CLOUD, count=500)
    [rent] = run.offered(machine("bid", "0.10", Kind.INTERRUPTIBLE))
    run.tick(60)

    run.on(Lost(rent.lease_id, "it did not come up", loss))

    learned = run.scheduler.state.knowledge.scores.outbid.get("RTX 4090")
    assert (learned.events if learned is not None else None) == events
