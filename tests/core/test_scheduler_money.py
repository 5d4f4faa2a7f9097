"""Money is set aside before it is spent, and never more than there is."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from nightkiln.core.budget import rent_usd, traffic_usd
from nightkiln.core.events import (
    BudgetSet,
    Extend,
    Lost,
    Offered,
    Release,
    Released,
    Rent,
    Rented,
    Stop,
    Submit,
)
from nightkiln.core.model import Loss
from nightkiln.core.renting import RELEASE_AHEAD_S
from nightkiln.core.terms import AtCap, Load, Terms
from tests.core.table import CHEAP, CLOUD, DEAR, LOCAL, NEAR, Run, machine, of, started

LOAD = Load(image_gb=5.0, models_gb=7.0, result_gb=0.002)


def run_with(budget: str, *, count: int = 9000, at_cap: AtCap = AtCap.FINISH) -> Run:
    usd = Decimal(budget)
    terms = Terms("night-1", 8, jobs=count, budget=usd, at_cap=at_cap, load=LOAD)
    return started(terms, CLOUD, count=count)


def reserved(run: Run) -> Decimal:
    return run.scheduler.state.ledger.reserved(run.now_s)


def test_a_lease_reserves_its_whole_life_and_its_traffic_before_it_is_asked_for() -> None:
    run = run_with("5.00")
    [rent] = run.offered(CHEAP)

    held = run.scheduler.state.leases[rent.lease_id]
    life = rent_usd(rent.offer, rent.expires_at_s)
    assert reserved(run) == life + traffic_usd(CHEAP, LOAD, held.jobs_paid)
    assert held.expires_s == rent.expires_at_s


def test_only_the_event_that_it_is_released_settles_a_lease() -> None:
    run = run_with("5.00")
    [rent] = run.offered(CHEAP)
    before = reserved(run)

    [release] = of(Release, run.on(Lost(rent.lease_id, "outbid", Loss.MARKET)))
    assert reserved(run) == before

    run.on(Released(release.lease_id, Decimal("0.07")))
    ledger = run.scheduler.state.ledger
    assert (ledger.spent, reserved(run)) == (Decimal("0.07"), Decimal(0))


def test_without_a_bill_what_the_clock_says_is_spent() -> None:
    run = run_with("5.00")
    [rent] = run.offered(CHEAP)
    run.wait(1200)

    run.on(Released(rent.lease_id))

    assert run.scheduler.state.ledger.spent >= rent_usd(CHEAP, 1200.0)


def test_what_loading_did_not_cost_buys_more_once_the_machine_is_up() -> None:
    run = run_with("5.00")
    [rent] = run.offered(replace(CHEAP, loading_billed=0.0))
    run.wait(600)
    before = reserved(run)

    run.on(Rented(run.leases[rent.lease_id], loading_s=480.0))

    assert before - reserved(run) == rent_usd(CHEAP, 480.0) == Decimal("0.04")


def test_a_release_that_takes_long_goes_on_costing() -> None:
    run = run_with("5.00")
    [rent] = run.offered(CHEAP)
    run.on(Lost(rent.lease_id, "dead", Loss.LOST))
    before = reserved(run)

    run.tick(rent.expires_at_s + 3600)

    assert reserved(run) == before + rent_usd(CHEAP, 3600.0)


def test_what_is_left_buys_a_shorter_life() -> None:
    rich, poor = run_with("5.00"), run_with("0.25")

    [long], [short] = rich.offered(CHEAP), poor.offered(CHEAP)

    assert short.expires_at_s < long.expires_at_s
    assert reserved(poor) <= Decimal("0.25")


def test_nothing_is_rented_that_could_not_do_a_single_job_for_what_is_left() -> None:
    run = run_with("0.02")

    commands = run.on(Offered("cloud", (CHEAP, DEAR)))

    assert of(Rent, commands) == []
    [stop] = of(Stop, commands)
    assert "raise --budget" in stop.reason
    assert run.scheduler.is_finished


def test_what_cannot_be_paid_does_not_keep_a_machine_for_free_from_working() -> None:
    terms = Terms("night-1", 8, jobs=9, budget=Decimal("0.01"), load=LOAD)
    run = started(terms, LOCAL, CLOUD, count=9)
    run.on(Offered("cloud", (CHEAP,)))

    [rent] = run.offered(NEAR)

    assert rent.offer == NEAR
    assert of(Stop, run.log) == []


def test_what_nobody_confirms_to_be_released_stays_reserved_and_the_run_goes_on() -> None:
    run = run_with("5.00")
    [rent] = run.offered(CHEAP)
    run.on(Lost(rent.lease_id, "dead", Loss.LOST))
    before = reserved(run)

    run.on(Released(rent.lease_id, Decimal("0.07"), is_confirmed=False))

    ledger = run.scheduler.state.ledger
    assert run.scheduler.state.leases == {}
    assert (ledger.spent, reserved(run)) == (Decimal(0), before)
    run.on(Released(rent.lease_id, Decimal("0.07")))  # somebody has ended it by hand
    assert (ledger.spent, reserved(run)) == (Decimal("0.07"), Decimal(0))


def test_money_kept_for_what_is_not_released_buys_nothing_else_and_is_told() -> None:
    run = run_with("0.60")
    [rent] = run.offered(CHEAP)
    run.on(Lost(rent.lease_id, "dead", Loss.LOST))

    run.on(Released(rent.lease_id, None, is_confirmed=False))
    commands = run.on(Offered("cloud", (DEAR,)))

    assert of(Rent, commands) == []
    [stop] = of(Stop, run.log)
    assert "0.00 of 0.60 USD are spent" in stop.reason
    assert "kept for machines not confirmed released" in stop.reason


def play_to_the_cap(run: Run) -> None:
    """Render, 6 seconds a job, until nothing is rented any more."""
    while run.scheduler.state.leases and run.now_s < 40_000:
        run.tick(6)
        run.done_by_all(6.0)
        for release in of(Release, run.log):
            run.on(Released(release.lease_id))


@pytest.mark.parametrize("at_cap", list(AtCap))
def test_at_the_cap_what_is_in_flight_is_finished_or_cut(at_cap: AtCap) -> None:
    run = run_with("0.35", at_cap=at_cap)
    [rent] = run.offered(CHEAP)
    run.up(rent)

    while not of(Release, run.log):
        run.tick(6)
        run.done_by_all(6.0)

    held = run.scheduler.state.leases[rent.lease_id]
    assert bool(held.running) == (at_cap is AtCap.CANCEL)
    assert held.done > 100
    assert run.now_s <= held.expires_s - RELEASE_AHEAD_S + 6


def test_a_night_on_a_small_budget_never_exceeds_it_and_says_why_it_stops() -> None:
    run = run_with("0.60")
    for rent in run.offered(CHEAP, DEAR):
        run.up(rent)

    play_to_the_cap(run)
    run.on(Offered("cloud", (CHEAP, machine("other"))))
    run.tick(1)

    assert run.scheduler.state.ledger.spent <= Decimal("0.60")
    assert len(of(Stop, run.log)) == 1
    assert run.scheduler.state.done > 100


def test_a_lease_is_extended_only_as_far_as_the_budget_goes() -> None:
    run = run_with("0.55")
    [rent] = run.offered(CHEAP)
    run.up(rent)

    play_to_the_cap(run)

    extends = of(Extend, run.log)
    assert extends
    assert run.scheduler.state.ledger.spent <= Decimal("0.55")
    per_s = float(CHEAP.usd_per_hour) / 3600
    assert extends[-1].expires_at_s * per_s <= 0.55


def test_results_are_paid_for_before_they_are_asked_for() -> None:
    run = run_with("5.00")
    [rent] = run.offered(CHEAP)
    run.up(rent)
    held = run.scheduler.state.leases[rent.lease_id]
    jobs_paid = held.jobs_paid

    while len(run.submits) < jobs_paid:
        run.done_by_all(6.0)
    assert [each for _ in range(3) for each in of(Submit, run.done_by_all(6.0))] == []

    commands = run.tick(60)

    assert of(Extend, commands)
    assert of(Submit, commands)
    assert len(run.submits) <= held.jobs_paid


def test_a_run_that_may_get_more_money_waits_for_it_and_goes_on() -> None:
    terms = Terms("night-1", 8, jobs=9000, budget=Decimal("0.01"), load=LOAD, more_usd_s=120.0)
    run = started(terms, CLOUD, count=9000)
    assert run.offered(CHEAP) == []
    assert not run.scheduler.state.is_stopping

    run.wait(60)
    assert of(Rent, run.on(BudgetSet(Decimal("5.00"))))


def test_a_run_that_got_no_more_money_stops_when_it_has_waited() -> None:
    terms = Terms("night-1", 8, jobs=9000, budget=Decimal("0.01"), load=LOAD, more_usd_s=120.0)
    run = started(terms, CLOUD, count=9000)
    run.offered(CHEAP)

    run.wait(119)
    assert not run.scheduler.state.is_stopping
    assert of(Stop, run.wait(2))


def test_a_lower_budget_rents_nothing_more() -> None:
    run = run_with("5.00")
    [rent] = run.offered(CHEAP)
    run.on(BudgetSet(Decimal("0.50")))

    assert run.offered(CHEAP, NEAR) == []
    assert rent.lease_id in run.scheduler.state.leases
