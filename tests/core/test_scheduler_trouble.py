"""Providers that fail, machines that disappoint, offers that cannot be true."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from nightkiln.core import market, recording
from nightkiln.core.events import (
    Blame,
    Command,
    Lost,
    Offered,
    ProviderFailed,
    Queued,
    Release,
    Released,
    Rent,
    Started,
    Stop,
    Tick,
)
from nightkiln.core.model import Fault, Loss
from nightkiln.core.scheduler import Scheduler
from nightkiln.core.terms import Rules, Terms
from tests.core.table import (
    CHEAP,
    CLOUD,
    DEAR,
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
    refs,
    started,
)

HOUR_S = 3600.0


def test_a_provider_that_fails_again_and_again_is_left_alone_for_a_while() -> None:
    run = started(Terms("night-1", 8, jobs=5), CLOUD, count=5)
    for _ in range(market.FAILURES_MAX):
        run.on(ProviderFailed("cloud", "503"))
        if run.scheduler.state.market.shops["cloud"].breaker.failures < market.FAILURES_MAX:
            run.tick(Rules().offers_every_s)

    during = run.wait(Rules().pause_s - 1, step_s=5.0)
    after = run.wait(10, step_s=5.0)

    assert asked(during) == []
    assert asked(after) == ["cloud"]


def test_an_open_breaker_stays_open_twice_as_long_each_time_up_to_a_limit() -> None:
    breaker = market.Breaker()
    for _ in range(market.FAILURES_MAX):
        breaker.failed(0.0, "503", Rules())
    pauses = [breaker.open_until_s]
    for _ in range(9):
        breaker.failed(0.0, "503", Rules())
        pauses.append(breaker.open_until_s)

    assert pauses[:4] == [60.0, 120.0, 240.0, 480.0]
    assert pauses[-1] == Rules().pause_s_max
    breaker.worked()
    assert not breaker.is_open(0.0)


def test_one_providers_trouble_never_stops_the_others() -> None:
    run = started(Terms("night-1", 8, jobs=5), LOCAL, CLOUD, count=5)
    for _ in range(9):
        run.on(ProviderFailed("cloud", "503"))

    assert refs(run.offered(NEAR)) == [NEAR.ref]


def test_a_machine_that_somebody_else_took_is_no_bad_machine() -> None:
    run = started(Terms("night-1", 8, jobs=5), CLOUD, count=5)
    [rent] = run.offered(CHEAP)
    commands = run.on(Lost(rent.lease_id, "gone", Loss.GONE))
    run.on(Released(rent.lease_id))

    assert of(Blame, commands) == []
    assert refs(run.offered(CHEAP)) == ["cheap"]


@pytest.mark.parametrize(
    ("loss", "cause"), [(Loss.STARTUP, "startup"), (Loss.SLOW, "slow"), (Loss.LOST, "lost")]
)
def test_a_machine_is_blamed_only_when_another_did_well_what_it_failed(
    loss: Loss, cause: str
) -> None:
    alone = started(Terms("night-1", 8, jobs=5), CLOUD, count=5)
    [rent] = alone.offered(CHEAP)
    without = alone.on(Lost(rent.lease_id, "it is gone", loss))
    alone.on(Released(rent.lease_id))

    run = started(Terms("night-1", 8, jobs=900, deadline_s=HOUR_S), CLOUD, count=900)
    good, bad, *_ = run.offered(CHEAP, DEAR, machine("third"))
    run.done(run.up(good)[0])
    commands = run.on(Lost(bad.lease_id, "it is gone", loss))

    assert of(Blame, without) == []
    assert alone.offered(CHEAP) == []  # all the same not tonight
    machine_name, ttl_s = bad.offer.ref, recording.TTL_S[cause]
    assert of(Blame, commands) == [Blame("cloud", machine_name, cause, ttl_s)]


def test_a_machine_is_bad_when_others_did_well_what_failed_there_twice() -> None:
    run = billed_run(CHEAP, DEAR, count=500, deadline_s=0.6 * HOUR_S)
    said: list[Command] = []
    for count in range(recording.DOUBTS_MAX):
        assert of(Release, said) == []
        doubted = run.given_to(DEAR)[2 * count]
        run.on(failed(doubted, Fault.UNKNOWN))
        run.done(run.given_to(DEAR)[2 * count + 1])
        while not (again := [x for x in run.given_to(CHEAP) if x.job_id == doubted.job_id]):
            run.finish(CHEAP)
        said = run.done(again[0])

    ttl_s = recording.TTL_S["bad"]
    assert [each.lease_id for each in of(Release, said)] == [run.lease_on(DEAR)]
    assert of(Blame, said) == [Blame("cloud", "dear", "bad", ttl_s)]
    assert ttl_s > recording.TTL_S["slow"]


def test_a_block_from_an_earlier_night_holds_until_its_time_and_no_longer() -> None:
    run = Run(Scheduler(Terms("night-1", 8, jobs=5), blocked={CHEAP.host_key: 600.0}))
    run.on(Started(0.0, (CLOUD,)))
    run.on(Queued(jobs(5), is_last=True))

    assert run.offered(CHEAP) == []
    run.tick(600)
    assert refs(run.offered(CHEAP)) == ["cheap"]


def test_a_machine_of_ones_own_that_disappoints_gets_another_chance_later_and_later() -> None:
    run = free_run(NEAR, count=9)
    waits = []
    for _ in range(market.STRIKES_MAX - 1):
        lease_id = run.lease_on(NEAR)
        run.on(Lost(lease_id, "gone"))
        run.on(Released(lease_id))
        since_s = run.now_s
        while not (rents := run.offered(NEAR)):
            run.tick(0.5)
        waits.append(run.now_s - since_s)
        run.up(rents[0])

    assert waits == [market.COOLDOWN_S, 2 * market.COOLDOWN_S]


def test_a_machine_of_ones_own_that_works_again_has_all_its_chances_again() -> None:
    run = free_run(NEAR, count=40)
    for _ in range(2 * market.STRIKES_MAX):
        lease_id = run.lease_on(NEAR)
        run.done_by_all(6.0)
        run.on(Lost(lease_id, "gone"))
        run.on(Released(lease_id))
        [rent] = [*of(Rent, run.tick(market.COOLDOWN_S + 1)), *run.offered(NEAR)]
        run.up(rent)

    assert of(Stop, run.log) == []


# Nonsense.

NONSENSE = {
    "a negative price": {"usd_per_hour": Decimal(-1)},
    "no number": {"usd_per_hour": Decimal("NaN")},
    "a price of zero": {"usd_per_hour": Decimal(0)},
    "an infinite price": {"usd_per_hour": Decimal("Infinity")},
    "a price nobody pays": {"usd_per_hour": market.PRICE_MAX + 1},
    "a negative disk": {"storage_usd_per_hour": Decimal(-1)},
    "negative traffic": {"usd_per_gb_in": Decimal(-1)},
    "unknown traffic": {"usd_per_gb_out": Decimal("NaN")},
    "no slot": {"slots": 0},
    "a slot for every job": {"slots": market.SLOTS_MAX + 1},
    "no link": {"mbps_in": 0.0},
    "no memory": {"vram_gb": 0.0},
    "too good to be true": {"reliability": 1.1},
    "unknown reliability": {"reliability": float("nan")},
    "more than all is billed": {"loading_billed": 1.5},
    "an endless start": {"startup_s": float("inf")},
    "a negative tail": {"idle_tail_s": -1.0},
    "another's name": {"provider": "somebody else"},
}


@pytest.mark.parametrize("lie", NONSENSE.values(), ids=NONSENSE.keys())
def test_an_offer_that_cannot_be_true_is_not_rented_and_waited_past(lie: dict[str, object]) -> None:
    run = started(Terms("night-1", 8, jobs=5), CLOUD, count=5)

    commands = run.on(Offered("cloud", (replace(CHEAP, **lie),)))  # type: ignore[arg-type]

    assert of(Rent, commands) == []
    assert of(Stop, run.wait(3600)) == []
    assert refs(run.offered(CHEAP)) == ["cheap"]


def test_the_edges_of_what_can_be_true_are_rented() -> None:
    edge = replace(
        CHEAP, slots=market.SLOTS_MAX, reliability=0.0, loading_billed=0.0, idle_tail_s=0.0
    )
    run = started(Terms("night-1", 8, jobs=5), CLOUD, count=5)

    assert refs(run.offered(edge)) == ["cheap"]


@pytest.mark.parametrize("price", ["usd_per_hour", "storage_usd_per_hour"])
def test_a_provider_that_does_not_bill_cannot_have_a_price(price: str) -> None:
    run = started(Terms("night-1", 8, jobs=5), LOCAL, count=5)

    priced = replace(NEAR, **{price: Decimal("0.1")})  # type: ignore[arg-type]

    assert run.offered(priced) == []


def test_a_clock_that_runs_backwards_is_not_followed() -> None:
    run = billed_run(CHEAP, count=5)
    run.tick(100)

    run.on(Tick(50.0))
    run.on(Tick(float("nan")))

    assert run.scheduler.state.now_s == 100
