"""Calls by the real SDK: handed over, waited for, taken back, and every way they fail."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from nightkiln.testing.modal import FakeModal
from tests.modal_fake.yard import QUICK, RESULT_S_MAX, Yard, fake_modal, until

DAY_S = 86_400.0
MIB = 1024 * 1024
LONG_S = 3600  # of the story: a minute here
ANOTHER_PROCESS = """
import sys
import modal
print(modal.FunctionCall.from_id(sys.argv[1]).get(timeout=20)["glaze"])
"""


def raised(call: Any, timeout_s: float = RESULT_S_MAX) -> BaseException:
    """What asking for the result raises."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - the caller looks at it
        call.get(timeout=timeout_s)
    return caught.value


def requests(fake: FakeModal, name: str) -> int:
    return sum(one.name == name for one in fake.requests)


def test_a_spawned_call_is_found_again_by_another_process(yard: Yard) -> None:
    call = yard.fire(yard.kiln())

    told = subprocess.run(
        [sys.executable, "-c", ANOTHER_PROCESS, call.object_id],
        env={**os.environ, **yard.fake.env()},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert told.stdout == "celadon\n"


def test_a_result_may_be_asked_for_again(yard: Yard) -> None:
    call = yard.fire(yard.kiln())

    assert call.get(timeout=RESULT_S_MAX)["fired"] == call.get(timeout=RESULT_S_MAX)["fired"] == 1
    assert yard.seen(call).runs == 1


def test_waiting_callers_and_maps_are_served_too(yard: Yard) -> None:
    kiln = yard.kiln()

    assert kiln.fire.remote({"name": "vase"})["glaze"] == "celadon"
    assert len(list(kiln.fire.map([{"name": str(number)} for number in range(5)]))) == 5


def test_large_payloads_go_through_the_bucket_both_ways(yard: Yard) -> None:
    kiln = yard.kiln()

    answer = yard.fired(kiln, content=b"x" * MIB, bytes=3 * MIB)

    assert (answer["bytes"], len(answer["content"])) == (MIB, 3 * MIB)
    assert requests(yard.fake, "BlobCreate") >= 1


def test_an_exception_of_the_app_comes_back_as_what_it_was(yard: Yard) -> None:
    call = yard.fire(yard.kiln(), is_cracked=True)

    assert repr(raised(call)) == "ValueError('the pot is cracked')"
    assert yard.seen(call).statuses == ("FAILURE",)


def test_the_service_repeats_a_spawned_call_that_fails_as_often_as_it_was_told(yard: Yard) -> None:
    call = yard.fire(yard.kiln(retries=2), is_cracked=True)

    assert isinstance(raised(call), ValueError)
    assert yard.seen(call).runs == 3


def test_what_a_caller_waits_for_is_repeated_by_the_sdk(yard: Yard) -> None:
    name = yard.deploy()

    with pytest.raises(ValueError, match="cracked"):
        yard.kiln(name, retries=1).fire.remote({"name": "pot", "is_cracked": True})

    [call] = [one for one in yard.fake.calls if one.app == name]
    assert (call.runs, call.is_spawned) == (2, False)


def test_a_call_that_is_not_finished_is_pending(yard: Yard) -> None:
    call = yard.fire(yard.kiln(), seconds=60)

    with pytest.raises(TimeoutError):
        call.get(timeout=0)

    call.cancel(terminate_containers=True)


def test_a_call_that_takes_too_long_is_ended_with_its_container(yard: Yard) -> None:
    import modal.exception

    name = yard.deploy()
    call = yard.fire(yard.kiln(name, timeout=12), seconds=60)  # 12 s of the story are 0.2 here

    assert isinstance(raised(call), modal.exception.FunctionTimeoutError)
    until(lambda: yard.containers(name)[0].phase == "ended")


@pytest.mark.parametrize("kills", [False, True])
def test_a_running_call_can_be_cancelled(yard: Yard, *, kills: bool) -> None:
    name = yard.deploy()
    kiln = yard.kiln(name, timeout=LONG_S, max_containers=1)
    call = yard.fire(kiln, seconds=60)
    until(lambda: any("firing" in one.log for one in yard.containers(name)))

    call.cancel(terminate_containers=kills)

    assert "cancelled" in str(raised(call))
    assert yard.seen(call).is_killed == kills
    if kills:
        assert yard.containers(name)[0].phase == "ended"
    else:
        assert yard.fired(kiln)["fired"] == 1  # its container goes on
        assert len(yard.containers(name)) == 1


def test_a_waiting_call_that_is_cancelled_never_runs(yard: Yard) -> None:
    name = yard.deploy()
    kiln = yard.kiln(name, max_containers=1)
    first = yard.fire(kiln, seconds=2)
    second = yard.fire(kiln)

    second.cancel()

    assert first.get(timeout=RESULT_S_MAX)["fired"] == 1
    assert (yard.seen(second).runs, yard.seen(second).statuses) == (0, ("TERMINATED",))


def test_results_are_kept_for_a_week() -> None:
    import modal.exception

    with fake_modal() as yard:
        call = yard.fire(yard.kiln())
        call.get(timeout=RESULT_S_MAX)
        yard.fake.skip(6 * DAY_S)
        assert call.get(timeout=RESULT_S_MAX)["fired"] == 1
        yard.fake.skip(2 * DAY_S)

        assert isinstance(raised(call, 0), modal.exception.OutputExpiredError)


def test_what_is_not_there_is_not_found(yard: Yard) -> None:
    import modal
    import modal.exception

    with pytest.raises(modal.exception.NotFoundError, match="nobody"):
        yard.kiln("nobody").fire.spawn({})
    with pytest.raises(modal.exception.NotFoundError, match="version 9"):
        yard.kiln(yard.deploy(), version=9).fire.spawn({})
    stranger = modal.FunctionCall.from_id("fc-" + "9" * 22, client=yard.client)
    assert isinstance(raised(stranger), modal.exception.NotFoundError)


def test_a_wrong_token_is_refused(yard: Yard) -> None:
    import modal
    import modal.exception

    client = modal.Client.from_credentials("ak-wrong", "as-wrong")
    with pytest.raises(modal.exception.AuthError):
        modal.Cls.from_name(yard.deploy(), "Kiln", client=client)().fire.spawn({})
    client.close()


def test_a_definition_that_cannot_be_played_is_refused_by_name(yard: Yard) -> None:
    import modal
    import modal.exception

    app = modal.App("clock")

    @app.function(schedule=modal.Period(days=1), serialized=True)
    def strike() -> None:
        """Every day."""

    with pytest.raises(modal.exception.UnimplementedError, match="schedule"):
        app.deploy(name="clock", environment_name="main", client=yard.client)


@pytest.mark.parametrize("has_disks", [True, False])
def test_nothing_writes_to_this_computer_unless_it_may(tmp_path: Path, *, has_disks: bool) -> None:
    import modal
    import modal.exception

    app = modal.App("potter")
    shelf = modal.Volume.from_name("shelf", create_if_missing=True)

    @app.function(serialized=True, name="put", volumes={"/shelf": shelf})
    def put() -> None:
        with open(os.environ["SHELF"] + "/pot", "w") as file:  # noqa: PTH123 - sent as it is
            file.write("glazed")
        shelf.commit()

    rules = replace(QUICK, has_disks=has_disks, environment={"SHELF": str(tmp_path)})
    with fake_modal(rules=rules) as yard:
        app.deploy(name="potter", environment_name="main", client=yard.client)
        function = modal.Function.from_name("potter", "put", client=yard.client)
        if has_disks:
            function.spawn().get(timeout=RESULT_S_MAX)
            assert (tmp_path / "pot").read_text() == "glazed"
        else:
            with pytest.raises(modal.exception.UnimplementedError, match="/shelf"):
                function.spawn()


def test_a_plain_function_runs_too(yard: Yard) -> None:
    import modal

    app = modal.App("adder")

    @app.function(serialized=True, name="add")
    def add(one: int, other: int) -> int:
        return one + other

    app.deploy(name="adder", environment_name="main", client=yard.client)

    call = modal.Function.from_name("adder", "add", client=yard.client).spawn(1, 2)
    assert call.get(timeout=RESULT_S_MAX) == 3


def test_a_call_that_nobody_has_built_fails_by_its_name(yard: Yard) -> None:
    import modal
    import modal.exception

    with pytest.raises(modal.exception.UnimplementedError, match="no QueueGetOrCreate"):
        modal.Queue.from_name("q", create_if_missing=True, client=yard.client).hydrate()


def test_when_the_credit_is_used_up_nothing_more_can_be_called() -> None:
    import modal.exception

    with fake_modal(rules=replace(QUICK, credit_usd=Decimal("0.00001"))) as yard:
        kiln = yard.kiln()
        yard.fired(kiln, seconds=0.1)

        with pytest.raises(modal.exception.ResourceExhaustedError, match="spend limit"):
            yard.fire(kiln)


def test_the_state_of_a_function_can_be_asked_for(yard: Yard) -> None:
    name = yard.deploy()
    calls = [yard.fire(yard.kiln(name), seconds=60) for _ in range(5)]
    until(lambda: sum(yard.seen(one).runs for one in calls) == 2)

    stats = yard.kiln(name).fire.get_current_stats()

    assert (stats.backlog, stats.num_total_runners, stats.num_running_inputs) == (3, 2, 2)
    for call in calls:
        call.cancel(terminate_containers=True)
