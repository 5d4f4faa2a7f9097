"""Faults of the control plane and the bucket, as the real SDK tells of them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from nightkiln.core.errors import BadInput
from nightkiln.testing.modal import FAULTS, FakeModal
from nightkiln.testing.modal.faults import plan_of
from tests.modal_fake.yard import RESULT_S_MAX, Yard, fake_modal, until

MIB = 1024 * 1024
SHORT_S, MINUTE_S = 0.3, 60.0


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("spawn_away", "ServiceError"),
        ("internal_500", "InternalError"),
        ("spawn_rate", "ResourceExhaustedError"),
        ("no_credit", "ResourceExhaustedError"),
        ("auth", "AuthError"),
        ("forbidden", "PermissionDeniedError"),
    ],
)
def test_a_refused_spawn_raises_what_the_sdk_makes_of_it(
    yard: Yard, fault: str, error: str
) -> None:
    import modal.exception

    kiln = yard.kiln()
    yard.fired(kiln)
    before = len(yard.fake.calls)
    yard.fake.add_faults(fault)

    with pytest.raises(getattr(modal.exception, error)):
        yard.fire(kiln)

    assert len(yard.fake.calls) == before


def test_the_sdk_gets_over_a_short_blink_and_nothing_runs_twice(yard: Yard) -> None:
    kiln = yard.kiln()
    yard.fake.add_faults("lookup_lost", "spawn_blink", "spawn_reply_lost_once@3")

    call = yard.fire(kiln)

    assert call.get(timeout=RESULT_S_MAX)["fired"] == 1
    assert yard.fake.struck["spawn_reply_lost_once"] == 1
    assert sum(one.app == yard.seen(call).app for one in yard.fake.calls) == 1


def test_a_spawn_whose_answer_is_lost_for_good_runs_all_the_same(yard: Yard) -> None:
    import modal.exception

    name = yard.deploy()
    kiln = yard.kiln(name)
    yard.fired(kiln)
    yard.fake.add_faults("spawn_lost")

    with pytest.raises(modal.exception.ServiceError):
        yard.fire(kiln)

    assert [one.app for one in yard.fake.calls].count(name) == 2


def test_a_result_that_has_expired_is_gone(yard: Yard) -> None:
    import modal.exception

    call = yard.fire(yard.kiln())
    yard.fake.add_faults("expired")

    with pytest.raises(modal.exception.OutputExpiredError):
        call.get(timeout=0)


def test_the_first_answer_may_take_a_minute() -> None:
    import modal
    import modal.exception

    with fake_modal() as yard:
        yard.fake.add_faults("slow_connect")
        began_s = time.monotonic()

        with pytest.raises(TimeoutError):
            asyncio.run(within(SHORT_S, modal.Cls.from_name("kiln", "Kiln", client=yard.client)))

        assert SHORT_S <= time.monotonic() - began_s < MINUTE_S


async def within(seconds: float, lookup: Any) -> None:
    async with asyncio.timeout(seconds):
        await lookup.hydrate.aio()


@pytest.mark.parametrize("fault", ["blob_put_503", "blob_get_503"])
def test_a_payload_arrives_at_the_second_try(yard: Yard, fault: str) -> None:
    kiln = yard.kiln()
    yard.fake.add_faults(fault)

    answer = yard.fired(kiln, content=b"x" * MIB)

    assert answer["bytes"] == MIB
    assert yard.fake.struck[fault] == 1


def test_a_payload_that_cannot_be_put_is_an_error(yard: Yard) -> None:
    import modal.exception

    kiln = yard.kiln()
    yard.fake.add_faults("blob_put_fails")

    with pytest.raises(modal.exception.ExecutionError):
        yard.fire(kiln, content=b"x" * MIB)


def test_half_a_payload_cannot_be_read(yard: Yard) -> None:
    import modal.exception

    call = yard.fire(yard.kiln(), bytes=3 * MIB)
    until(lambda: yard.seen(call).statuses != ("OPEN",))
    yard.fake.add_faults("blob_short")

    with pytest.raises(modal.exception.DeserializationError):
        call.get(timeout=RESULT_S_MAX)


def test_a_fault_that_is_not_known_is_refused_at_once() -> None:
    with pytest.raises(BadInput):
        FakeModal(faults=["nonsense"])


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_every_fault_strikes_where_it_says(name: str) -> None:
    plan = plan_of("1")
    plan.add([f"{name}@2x2"])
    place = min(FAULTS[name].where)

    struck = [bool(plan.striking(place)) for _ in range(4)]

    assert struck == [False, True, True, False]


def test_a_share_of_opportunities_is_struck_and_the_same_ones_by_the_same_seed() -> None:
    def story(seed: str) -> list[bool]:
        plan = plan_of(seed)
        plan.add(["preempted%30"])
        return [bool(plan.striking("run")) for _ in range(300)]

    assert story("1") == story("1") != story("2")
    assert 60 < sum(story("1")) < 120


def test_by_default_a_little_of_everything_goes_wrong() -> None:
    plan = plan_of("1")
    plan.add(["default", "none"])

    for _ in range(500):
        plan.striking("run")
        plan.striking("FunctionMap", "*")

    assert {"preempted", "spawn_rate", "away"} <= set(plan.struck)
