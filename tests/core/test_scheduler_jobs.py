"""What becomes of a job that fails, and whom it is held against."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nightkiln.core import faults, stranded
from nightkiln.core.events import (
    Failed,
    GiveUp,
    Lost,
    Offered,
    Release,
    Released,
    Rendered,
    Rent,
    Submit,
)
from nightkiln.core.model import Fault, Loss
from nightkiln.core.release_rules import MACHINE_FAULTS_MAX
from nightkiln.core.terms import Terms
from tests.core.table import (
    BIG,
    CHEAP,
    CLOUD,
    DEAR,
    FALLBACK,
    FAR,
    NEAR,
    Run,
    billed_run,
    failed,
    free_run,
    function,
    machine,
    of,
    refs,
    started,
)

SLOT = function("slot")


def test_a_ready_machine_is_filled_up_to_its_slots() -> None:
    run = free_run(NEAR, count=5)

    given = run.given_to(NEAR)

    assert [submit.job_id for submit in given] == ["job-0", "job-1"]
    assert len({submit.attempt_id for submit in given}) == 2


def test_a_failed_job_goes_to_a_machine_where_it_has_not_failed() -> None:
    run = free_run(NEAR, FAR, count=4)
    first, elsewhere = run.given_to(NEAR)[0], run.given_to(FAR)[0]

    assert of(Submit, run.on(failed(first, Fault.UNKNOWN))) == []

    [again] = of(Submit, run.done(elsewhere))
    assert (again.job_id, again.lease_id) == (first.job_id, run.lease_on(FAR))


def test_a_rented_machine_never_gets_a_job_again_that_failed_there() -> None:
    run = billed_run(CHEAP, DEAR, count=1)
    [first] = run.submits

    commands = run.on(failed(first, Fault.UNKNOWN))

    assert [rent.offer.ref for rent in of(Rent, commands)] == ["dear"]
    assert [each.lease_id for each in of(Release, commands)] == [first.lease_id]
    [again] = run.up(of(Rent, commands)[0])
    assert again.job_id == first.job_id


def test_the_only_machine_of_ones_own_gets_a_failed_job_again() -> None:
    run = free_run(NEAR, count=1)
    [first] = run.submits

    [again] = of(Submit, run.on(failed(first, Fault.UNKNOWN)))

    assert again.job_id == first.job_id
    assert again.attempt_id != first.attempt_id


def test_a_job_waits_a_while_for_a_market_that_has_no_other_machine_and_is_then_given_up() -> None:
    run = billed_run(CHEAP, count=1, deadline_s=8 * 3600.0)
    [first] = run.submits
    run.on(failed(first, Fault.UNKNOWN))
    run.on(Released(first.lease_id))

    soon = run.wait(stranded.STRANDED_S_MAX - 100)
    run.on(Offered("cloud", (CHEAP,)))
    later = run.wait(300)

    assert of(GiveUp, soon) == []
    [end] = of(GiveUp, later)
    assert end.fault is Fault.UNKNOWN
    assert "1 machine" in end.error


def test_a_market_without_any_machine_is_waited_for() -> None:
    run = billed_run(CHEAP, count=1, deadline_s=8 * 3600.0)
    [first] = run.submits
    run.on(Lost(first.lease_id, "outbid", Loss.MARKET))
    run.on(Released(first.lease_id))
    run.on(Offered("cloud", ()))

    commands = run.wait(3 * stranded.STRANDED_S_MAX)

    assert of(GiveUp, commands) == []
    run.on(Offered("cloud", ()))
    [rent] = run.offered(DEAR)
    assert [submit.job_id for submit in run.up(rent)] == [first.job_id]


@pytest.mark.parametrize("fault", [Fault.JOB, Fault.OURS])
def test_what_would_fail_everywhere_is_given_up_at_once(fault: Fault) -> None:
    run = free_run(NEAR, count=1)
    [submit] = run.submits

    commands = run.on(failed(submit, fault, "rejected", "400: no prompt"))

    assert of(GiveUp, commands) == [GiveUp(submit.job_id, fault, "400: no prompt")]


def test_a_machine_that_lacks_a_file_is_let_go_and_the_job_tried_elsewhere() -> None:
    run = free_run(NEAR, FAR, count=3)
    [unfit, _], [busy, *_] = run.given_to(NEAR), run.given_to(FAR)

    commands = run.on(failed(unfit, Fault.MACHINE, "unfit", "not in list"))

    assert [each.lease_id for each in of(Release, commands)] == [unfit.lease_id]
    commands += run.done(busy)
    assert unfit.job_id in {submit.job_id for submit in of(Submit, commands)}


def test_a_job_that_fails_on_two_healthy_machines_is_poison() -> None:
    run = free_run(NEAR, FAR, count=9)
    bad, good = run.given_to(NEAR)
    run.done(good)
    for submit in run.given_to(FAR):
        run.done(submit)
    run.on(failed(bad, Fault.UNKNOWN))
    run.done(run.given_to(FAR)[-1])
    [again] = [each for each in run.given_to(FAR) if each.job_id == bad.job_id]

    commands = run.on(failed(again, Fault.UNKNOWN))

    assert of(GiveUp, commands) == [GiveUp(bad.job_id, Fault.JOB, "boom")]


def test_machines_that_never_rendered_anything_are_no_witnesses_against_a_job() -> None:
    third = replace(NEAR, ref="http://third")
    run = free_run(NEAR, FAR, third, count=3)
    first = run.given_to(NEAR)[0]
    run.on(failed(first, Fault.UNKNOWN))
    waiting = [each for each in run.submits if each.lease_id != first.lease_id]
    again = next(each for each in run.submits[1:] if each.job_id == first.job_id)
    assert again.lease_id != first.lease_id

    commands = run.on(failed(again, Fault.UNKNOWN))

    assert waiting
    assert of(GiveUp, commands) == []


def test_attempts_are_bounded_wherever_they_happened() -> None:
    run = free_run(NEAR, count=1)
    [submit] = run.submits
    for _ in range(faults.ATTEMPTS_MAX - 1):
        [submit] = of(Submit, run.on(failed(submit, Fault.UNKNOWN)))

    commands = run.on(failed(submit, Fault.UNKNOWN))

    assert of(GiveUp, commands) == [GiveUp(submit.job_id, Fault.UNKNOWN, "boom")]


def test_out_of_memory_needs_a_bigger_gpu_not_just_another() -> None:
    run = billed_run(CHEAP, DEAR, BIG, count=1)
    [submit] = run.submits

    commands = run.on(failed(submit, Fault.MACHINE, faults.OUT_OF_MEMORY))

    assert [rent.offer.ref for rent in of(Rent, commands)] == ["big"]


def test_the_third_try_is_on_the_fallback_which_is_the_surer_place() -> None:
    run = started(Terms("night-1", 8, jobs=1), CLOUD, FALLBACK, count=1)
    run.on(Offered("functions", (function("slot"),)))
    [rent] = run.offered(CHEAP, DEAR, machine("third", "0.31"))
    for _ in range(2):
        [submit] = run.up(rent)
        [rent] = of(Rent, run.on(failed(submit, Fault.UNKNOWN)))

    assert rent.offer.ref == "slot"


def beside_a_slot() -> tuple[Run, Submit]:
    """Two machines and a slot of the fallback, all at work, and a job that one of them has."""
    run = started(Terms("night-1", 8, jobs=1500, deadline_s=3600.0), CLOUD, FALLBACK, count=1500)
    run.on(Offered("functions", (SLOT,)))
    for rent in run.offered(CHEAP, DEAR):
        run.up(rent)
    return run, run.given_to(CHEAP)[0]


def test_a_job_that_may_fail_everywhere_is_tried_on_a_machine_first() -> None:
    run, bad = beside_a_slot()
    run.on(failed(bad, Fault.UNKNOWN))

    elsewhere = of(Submit, run.done(run.given_to(SLOT)[0]))
    here = of(Submit, run.done(run.given_to(DEAR)[0]))

    assert bad.job_id not in {submit.job_id for submit in elsewhere}
    assert [submit.job_id for submit in here] == [bad.job_id]


def test_a_machine_s_own_failure_sends_a_job_wherever_there_is_room() -> None:
    run, bad = beside_a_slot()
    run.on(failed(bad, Fault.MACHINE, "cuda"))

    assert [each.job_id for each in of(Submit, run.done(run.given_to(SLOT)[0]))] == [bad.job_id]


def test_a_slot_gets_such_a_job_once_no_machine_is_left_to_try_it_on() -> None:
    run, bad = beside_a_slot()
    run.on(failed(bad, Fault.UNKNOWN))
    run.on(Lost(run.lease_on(DEAR), "gone", Loss.LOST))

    given = of(Submit, run.done(run.given_to(SLOT)[0]))

    assert [submit.job_id for submit in given] == [bad.job_id]


def test_a_job_that_may_fail_everywhere_has_a_machine_rented_rather_than_a_slot() -> None:
    run = started(Terms("night-1", 8, jobs=1), CLOUD, FALLBACK, count=1)
    run.on(Offered("functions", (function("slot", "2.50"),)))
    [rent] = run.offered(CHEAP, DEAR)
    [submit] = run.up(rent)

    assert refs(of(Rent, run.on(failed(submit, Fault.UNKNOWN)))) == ["dear"]


def test_a_market_that_takes_machines_back_is_never_held_against_a_job() -> None:
    run = billed_run(machine("gpu-0"), count=1)

    for number in range(1, 4 * faults.LOSSES_MAX):
        lease_id = run.submits[-1].lease_id
        run.on(Lost(lease_id, "outbid", Loss.MARKET))
        run.on(Released(lease_id))
        [rent] = run.offered(machine(f"gpu-{number}"))
        assert len(run.up(rent)) == 1

    assert of(GiveUp, run.log) == []


def test_only_the_job_that_was_rendering_is_suspected_when_machines_die_under_it() -> None:
    run = billed_run(machine("gpu-0"), count=2, deadline_s=8 * 3600.0)

    for number in range(1, faults.LOSSES_MAX + 1):
        lease_id = run.submits[-1].lease_id
        run.on(Lost(lease_id, "dead", Loss.LOST))
        run.on(Released(lease_id))
        for rent in run.offered(machine(f"gpu-{number}")):
            run.up(rent)

    assert [(end.job_id, end.fault) for end in of(GiveUp, run.log)] == [("job-0", Fault.UNKNOWN)]


def test_a_job_handed_back_by_a_cancelled_try_is_no_failure() -> None:
    run = free_run(NEAR, count=1)
    [submit] = run.submits

    for _ in range(10 * faults.ATTEMPTS_MAX):
        [submit] = of(Submit, run.on(failed(submit, Fault.MARKET)))

    assert run.scheduler.state.failed == 0


def test_a_machine_that_fails_again_and_again_is_released_but_a_success_between_keeps_it() -> None:
    run = free_run(NEAR, FAR, count=50)
    for _ in range(2 * MACHINE_FAULTS_MAX):
        first, second = run.given_to(NEAR)[-2:]
        assert of(Release, run.on(failed(first, Fault.MACHINE))) == []
        assert of(Release, run.done(second)) == []

    released: list[Release] = []
    for _ in range(MACHINE_FAULTS_MAX):
        assert released == []
        running = run.scheduler.state.leases[run.lease_on(NEAR)].running
        head = next(iter(running))
        released = of(Release, run.on(Failed(head, Fault.MACHINE, "truncated", "boom")))

    assert [each.lease_id for each in released] == [run.lease_on(NEAR)]


def test_a_full_disk_ends_a_machine_at_once() -> None:
    run = free_run(NEAR, FAR, count=50)
    first = run.given_to(NEAR)[0]

    commands = run.on(failed(first, Fault.MACHINE, "disk_full"))

    assert [each.lease_id for each in of(Release, commands)] == [first.lease_id]


def test_a_result_told_twice_counts_once() -> None:
    run = free_run(NEAR, count=3)
    first = run.submits[0]
    run.done(first)

    assert run.on(Rendered(first.attempt_id)) == []
    assert run.scheduler.state.done == 1
