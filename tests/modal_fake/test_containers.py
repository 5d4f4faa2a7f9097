"""Containers: how many, for how long, what they cost, and what befalls them."""

from __future__ import annotations

import time
from dataclasses import replace
from decimal import Decimal

import httpx
import pytest

from nightkiln.testing.modal import Phase, Rules, StandIns
from tests.modal_fake.yard import AT_ONCE, QUICK, RESULT_S_MAX, SPEED, Yard, fake_modal, until


def test_one_input_at_a_time_in_as_many_containers_as_are_allowed(yard: Yard) -> None:
    name = yard.deploy()  # at most 2
    calls = [yard.fire(yard.kiln(name), seconds=0.3) for _ in range(6)]

    answers = [call.get(timeout=RESULT_S_MAX) for call in calls]

    containers = {one["environment"]["MODAL_TASK_ID"] for one in answers}
    assert len(containers) == len(yard.containers(name)) == 2
    assert sum(one["fired"] for one in answers) > 6  # some did several, one after another


def test_an_idle_container_stays_for_a_while_and_then_goes(yard: Yard) -> None:
    name = yard.deploy()
    yard.fired(yard.kiln(name))
    yard.fired(yard.kiln(name))
    assert len(yard.containers(name)) == 1

    until(lambda: yard.containers(name)[0].phase == Phase.IDLE)
    yard.fake.skip(240)

    until(lambda: yard.containers(name)[0].phase == Phase.ENDED)
    yard.fired(yard.kiln(name))
    assert len(yard.containers(name)) == 2


def test_as_many_containers_as_are_wanted_are_kept_without_any_input(yard: Yard) -> None:
    name = yard.deploy()
    kiln = yard.kiln(name)
    kiln.fire.autoscaler.update(min_containers=1)
    until(lambda: [one.phase for one in yard.containers(name)] == [Phase.IDLE])

    yard.fake.skip(600)

    assert [one.phase for one in yard.containers(name)] == [Phase.IDLE]
    kiln.fire.autoscaler.update(min_containers=0)
    until(lambda: [one.phase for one in yard.containers(name)] == [Phase.ENDED])


def test_a_container_that_takes_itself_out_gets_no_further_input(yard: Yard) -> None:
    kiln = yard.kiln()

    assert yard.fired(kiln, is_last=True)["fired"] == 1
    assert yard.fired(kiln)["fired"] == 1


def test_a_preempted_input_runs_again_whatever_retries_say(yard: Yard) -> None:
    yard.fake.add_faults("preempted")
    name = yard.deploy()

    call = yard.fire(yard.kiln(name), seconds=1)  # it is taken away after a sixtieth of that

    assert call.get(timeout=RESULT_S_MAX)["fired"] == 1
    assert yard.seen(call).runs == 2
    assert len(yard.containers(name)) == 2
    assert yard.fake.struck["preempted"] == 1


def test_an_input_whose_container_hangs_ends_when_its_time_is_up(yard: Yard) -> None:
    import modal.exception

    yard.fake.add_faults("frozen")
    call = yard.fire(yard.kiln(timeout=60), seconds=0.5)  # it may take a second

    with pytest.raises(modal.exception.FunctionTimeoutError):
        call.get(timeout=RESULT_S_MAX)


@pytest.mark.parametrize(
    ("fault", "error", "status"),
    [
        ("internal_failure", "InternalFailure", "INTERNAL_FAILURE"),
        ("oom", "RemoteError", "KERNEL_OOM_KILL"),
        ("evicted", "RemoteError", "TERMINATED"),
    ],
)
def test_an_input_that_the_service_gives_up_says_so(
    yard: Yard, fault: str, error: str, status: str
) -> None:
    import modal.exception

    yard.fake.add_faults(fault)
    call = yard.fire(yard.kiln(), seconds=5)

    with pytest.raises(getattr(modal.exception, error)):
        call.get(timeout=RESULT_S_MAX)
    assert yard.seen(call).statuses == (status,)


def test_the_next_gpu_of_the_list_is_taken_when_the_first_is_not_to_be_had(yard: Yard) -> None:
    yard.fake.add_faults("next_gpu")
    name = yard.deploy()

    yard.fired(yard.kiln(name))

    assert yard.containers(name)[0].gpu == "A100-40GB"


def test_a_container_that_crashes_while_it_starts_is_tried_again_for_ever_and_billed() -> None:
    with fake_modal() as yard:
        yard.fake.add_faults("crash_loop")
        name = yard.deploy()
        call = yard.fire(yard.kiln(name))
        until(lambda: len(yard.containers(name)) > 3)

        assert yard.seen(call).statuses == ("OPEN",)
        assert yard.fake.billing.by_gpu["L40S"].busy_s == 0
        assert yard.fake.billing.by_gpu["L40S"].starting_s > 0
        call.cancel(terminate_containers=True)
        until(lambda: all(one.phase == Phase.ENDED for one in yard.containers(name)))


def test_an_input_may_fail_where_the_service_gives_up_starting() -> None:
    import modal.exception

    rules = Rules(queue_s=AT_ONCE, cold_s=AT_ONCE, crash_wait_s=(0.1, 0.1), crashes_max=3)
    with fake_modal(rules=rules, faults=["crash_loop"]) as yard:
        call = yard.fire(yard.kiln())

        with pytest.raises(modal.exception.RemoteError, match="enter hook crashed"):
            call.get(timeout=RESULT_S_MAX)
        assert len(yard.fake.containers) == 3


def test_a_container_that_never_comes_up_is_given_up_in_time(yard: Yard) -> None:
    yard.fake.add_faults("never_up")
    name = yard.deploy()
    call = yard.fire(yard.kiln(name))
    until(lambda: yard.containers(name)[0].phase == Phase.STARTING)
    yard.fake.skip(1201)

    assert call.get(timeout=RESULT_S_MAX)["fired"] == 1
    assert [one.was_up for one in yard.containers(name)] == [False, True]


def test_the_start_is_billed_the_search_for_a_gpu_is_not() -> None:
    rules = replace(QUICK, queue_s=(60.0, 60.0), cold_s=(30.0, 30.0))
    with fake_modal(rules=rules) as yard:
        kiln = yard.kiln()
        began_s = time.monotonic()
        yard.fired(kiln, seconds=0.2)
        took_s = Decimal(time.monotonic() - began_s)
        until(lambda: yard.fake.containers[0].phase == Phase.ENDED)

        bill = yard.fake.billing.by_gpu["L40S"]
        assert bill.starting_s >= 30 / SPEED  # the wall's, not the story's
        assert bill.busy_s >= Decimal("0.2")
        assert bill.starting_s + bill.busy_s <= took_s - Decimal(60 / SPEED)  # nobody pays for that
        assert bill.idle_s >= 240 / SPEED


def test_a_container_speaks_to_a_comfyui_of_its_own() -> None:
    with fake_modal(rules=QUICK, comfy=StandIns(SPEED)) as yard:
        call = yard.fire(yard.kiln(), seconds=0.5)
        until(lambda: yard.seen(call).runs)
        url = yard.fake.containers[0].comfy_url
        stats = httpx.get(f"{url}/system_stats", trust_env=False).json()

        assert "L40S" in stats["devices"][0]["name"]
        assert call.get(timeout=RESULT_S_MAX)["environment"]["COMFYUI_URL"] == url
