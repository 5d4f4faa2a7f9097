"""Which machines are rented, kept, dropped and avoided."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from nightkiln.core.events import (
    AskOffers,
    Capacity,
    FetchJobs,
    Lost,
    Offered,
    Queued,
    Release,
    Released,
    Rent,
    Started,
    Tick,
)
from nightkiln.core.fleet_rules import OFFERS_MAX
from nightkiln.core.job_rules import FETCH_MAX
from nightkiln.core.learning import Scores
from nightkiln.core.market import OFFERS_S_MAX
from nightkiln.core.model import Kind, Loss
from nightkiln.core.priors import Priors
from nightkiln.core.scheduler import Scheduler
from nightkiln.core.state import CROWD, CROWD_PAUSE_S
from nightkiln.core.terms import Rules, Terms
from tests.core.table import (
    CHEAP,
    CLOUD,
    DEAR,
    FAR,
    LOCAL,
    NEAR,
    Run,
    asked,
    billed_run,
    jobs,
    machine,
    of,
    refs,
    started,
    stock,
)

HOUR_S = 3600.0


# Before anything is rented.


def test_a_run_first_asks_for_jobs_and_for_machines_only_once_there_are_some() -> None:
    run = Run(Scheduler(Terms("night-1", 4)))

    assert run.on(Started(0.0, (LOCAL,))) == [FetchJobs(FETCH_MAX)]
    assert run.on(Queued(jobs(3), is_last=True)) == [AskOffers("local", OFFERS_MAX)]


def test_no_more_machines_of_ones_own_are_taken_than_there_are_jobs() -> None:
    run = started(Terms("night-1", 4), LOCAL, count=1)

    assert refs(run.offered(NEAR, FAR)) == [NEAR.ref]


def test_machines_of_ones_own_that_are_coming_up_are_counted_too() -> None:
    third = replace(NEAR, ref="http://third")
    run = started(Terms("night-1", 4), LOCAL, count=2)
    run.offered(NEAR)

    assert refs(run.offered(NEAR, FAR, third)) == [FAR.ref]


def test_nobody_is_asked_while_nothing_is_wanted() -> None:
    run = billed_run(CHEAP, count=20, deadline_s=8 * HOUR_S)

    commands = run.wait(Rules().swap_every_s - 60)

    assert asked(commands) == []
    assert asked(run.wait(120)) == ["cloud"]  # something cheaper may have come up
    run.on(Offered("cloud", (CHEAP,)))
    assert asked(run.wait(Rules().swap_every_s - 60)) == []
    assert asked(run.wait(120)) == ["cloud"]


def test_a_provider_that_did_not_answer_yet_is_not_asked_a_second_time() -> None:
    run = started(Terms("night-1", 4, jobs=900), CLOUD, count=900)

    assert asked(run.log) == ["cloud"]
    assert asked(run.wait(600)) == []


def test_an_answer_that_is_too_old_is_not_rented_from() -> None:
    terms = Terms("night-1", 4, jobs=900, deadline_s=8 * HOUR_S)
    run = started(terms, CLOUD, count=900)
    [rent] = run.offered(CHEAP, DEAR)
    run.tick(OFFERS_S_MAX + 1)

    commands = run.on(Lost(rent.lease_id, "outbid", Loss.MARKET))

    assert of(Rent, commands) == []


# How many, and which.


def test_the_cheapest_job_is_rented_not_the_cheapest_hour() -> None:
    slow = replace(machine("slow", "0.20"), gpu="RTX 3060")
    quick = replace(machine("quick", "0.40"), gpu="RTX 4090")
    priors = Priors(seconds_per_job={"RTX 3060": 30.0, "RTX 4090": 6.0})
    run = started(Terms("night-1", 8, jobs=50), CLOUD, count=50, priors=priors)

    assert refs(run.offered(slow, quick)) == ["quick"]


def test_disk_and_traffic_are_part_of_the_price() -> None:
    hidden = replace(CHEAP, storage_usd_per_hour=Decimal("0.80"))
    run = started(Terms("night-1", 8, jobs=500), CLOUD, count=500)

    assert refs(run.offered(hidden, DEAR)) == ["dear"]


def test_as_many_are_rented_as_the_90th_percentile_needs_and_no_more() -> None:
    mean_need = 2000 * 6.0 / HOUR_S
    few = started(Terms("night-1", 64, jobs=2000, deadline_s=HOUR_S), CLOUD, count=2000)
    many = started(Terms("night-1", 64, jobs=4000, deadline_s=HOUR_S), CLOUD, count=4000)

    for_2000, for_4000 = few.offered(*stock(40)), many.offered(*stock(40))

    assert mean_need < len(for_2000) < 4 * mean_need
    assert len(for_2000) < len(for_4000) <= 2 * len(for_2000) + 1


def test_never_more_than_the_limit_even_if_the_deadline_is_missed() -> None:
    run = started(Terms("night-1", 3, jobs=9000, deadline_s=HOUR_S), CLOUD, count=9000)

    assert len(run.offered(*stock(40))) == 3


def test_the_controllers_own_capacity_is_a_limit_like_any_other() -> None:
    terms = Terms("night-1", 64, jobs=9000, deadline_s=HOUR_S, jobs_per_s_max=0.5)
    run = started(terms, CLOUD, count=9000)

    assert len(run.offered(*stock(40))) == 3  # 3 x 1/6 per second


def test_what_the_controller_takes_in_is_measured_while_it_works() -> None:
    run = started(Terms("night-1", 64, jobs=9000, deadline_s=HOUR_S), CLOUD, count=9000)

    run.on(Tick(1.0, Capacity(jobs_per_s=0.5, jobs_room=None)))
    run.on(Tick(2.0))  # says nothing new

    assert len(run.offered(*stock(40))) == 3  # 3 x 1/6 per second


def test_nothing_is_rented_for_results_that_the_disk_has_no_room_for() -> None:
    rented = []
    for room in (9000, 500, 0):
        run = started(Terms("night-1", 64, jobs=9000, deadline_s=HOUR_S), CLOUD, count=9000)
        run.on(Tick(1.0, Capacity(jobs_per_s=1000.0, jobs_room=room)))
        rented.append(len(run.offered(*stock(40))))

    assert rented[0] > rented[1] > rented[2] == 0


def test_an_unproven_workflow_gets_two_machines_until_its_first_result() -> None:
    terms = Terms("night-1", 64, jobs=9000, deadline_s=HOUR_S)
    run = started(terms, CLOUD, count=9000, scores=Scores())
    canaries = run.offered(*stock(40))
    [first, *_] = run.up(canaries[0])

    fleet = of(Rent, [*run.done(first), *run.tick(60)])

    assert len(canaries) == Rules().canary_leases_max
    assert len(fleet) > 2


def test_when_the_canary_takes_too_long_the_fleet_is_rented_unproven() -> None:
    terms = Terms("night-1", 64, jobs=9000, deadline_s=HOUR_S)
    run = started(terms, CLOUD, count=9000, scores=Scores())
    run.offered(*stock(40))

    run.tick(Rules().canary_share_max * HOUR_S + 1)

    assert len(run.offered(*stock(40))) > 2


def test_how_long_the_canary_may_take_is_counted_from_the_start_of_the_run() -> None:
    start_s, terms = 50_000.0, Terms("night-1", 64, jobs=9000, deadline_s=50_000.0 + HOUR_S)
    run = Run(Scheduler(terms))
    run.on(Started(start_s, (CLOUD,)))
    run.on(Queued(jobs(1000), is_last=False))
    run.offered(*stock(40))

    run.on(Tick(start_s + 0.9 * Rules().canary_share_max * HOUR_S))
    early = run.offered(*stock(40))
    later = of(Rent, run.on(Tick(start_s + 1.1 * Rules().canary_share_max * HOUR_S)))

    assert early == []
    assert later != []


# Letting go.


def test_the_dearest_goes_when_the_others_suffice() -> None:
    run = billed_run(*stock(6), DEAR, machine("dearest", "2.00"), count=3000, deadline_s=HOUR_S)
    ready = {run.leases[each].offer.ref for each in run.scheduler.state.leases}
    assert "dearest" in ready

    while of(Release, run.log) == []:
        run.tick(2)
        run.done_by_all(1.0)

    going = {each.id for each in run.scheduler.state.leases.values() if "suffice" in each.error}
    prices = {each: run.leases[each].offer.usd_per_hour for each in run.leases}
    assert run.lease_on(machine("dearest")) in going
    for lease_id in going - {each.lease_id for each in of(Release, run.log)}:
        commands = run.finish(run.leases[lease_id].offer)
        assert lease_id in {each.lease_id for each in of(Release, commands)}
    assert max(prices[each] for each in set(prices) - going) <= min(prices[each] for each in going)


def test_a_machine_is_swapped_for_one_that_saves_a_good_share_of_what_remains() -> None:
    terms = Terms("night-1", 8, jobs=2000, deadline_s=30 * HOUR_S)
    run = started(terms, CLOUD, count=2000)
    [rent] = run.offered(DEAR)
    run.up(rent)
    run.wait(Rules().swap_every_s + 60)

    [swap] = run.offered(DEAR, CHEAP)
    run.up(swap)
    run.wait(300)

    assert swap.offer.ref == "cheap"
    assert "saves" in swap.reason
    assert run.scheduler.state.leases[rent.lease_id].error.startswith("the others suffice")


def test_machines_that_are_soon_taken_away_may_stand_in_for_one_together() -> None:
    terms = Terms("night-1", 8, jobs=2000, deadline_s=30 * HOUR_S)
    run = started(terms, CLOUD, count=2000)
    [rent] = run.offered(machine("dear", "4.00"))
    run.up(rent)
    bids = [machine(f"bid-{n}", "0.30", Kind.INTERRUPTIBLE) for n in range(6)]
    for _ in range(40):
        run.scheduler.state.knowledge.held(bids[0], 1.0, was_lost=True)
    run.wait(Rules().swap_every_s + 60)

    swaps = run.offered(machine("dear", "4.00"), *bids)

    assert len(swaps) > 1
    assert all("in the place of" in swap.reason for swap in swaps)


def test_a_cheap_machine_stays_though_the_others_suffice() -> None:
    """The dearest is too large to be missed; it would have to do the cheap one's jobs, too."""
    cheap, large = machine("cheap", "0.20"), replace(machine("large", "2.00"), gpu="RTX 5090")
    seconds = {"RTX 4090": 6.0, "RTX 5090": 1.5}
    priors = Priors(seconds, workflow_sigma=0.05, class_sigma=0.05, machine_sigma=0.05)
    terms = Terms("night-1", 8, jobs=1500, deadline_s=2 * HOUR_S)
    run = started(terms, CLOUD, count=1500, priors=priors)
    for offers in ((cheap,), (large,)):
        for rent in run.offered(*offers):
            run.up(rent)
    assert {each.offer.ref for each in run.leases.values()} == {"cheap", "large"}

    run.wait(600)

    assert of(Release, run.log) == []
    assert all(not held.error for held in run.scheduler.state.leases.values())


@pytest.mark.parametrize(("last_s", "drops"), [(0.0, True), (2 * HOUR_S, False)])
def test_just_before_the_deadline_no_machine_is_dropped(last_s: float, *, drops: bool) -> None:
    rules = Rules(last_s=last_s)
    terms = Terms("night-1", 8, jobs=3000, deadline_s=HOUR_S, rules=rules)
    run = started(terms, CLOUD, count=3000)
    for rent in run.offered(*stock(6), DEAR):
        run.up(rent)

    for _ in range(200):
        run.tick(2)
        run.done_by_all(1.0)

    errors = [held.error for held in run.scheduler.state.leases.values()]
    assert any("suffice" in error for error in errors) == drops


def test_nothing_is_dropped_within_a_minute_of_its_renting() -> None:
    rules = Rules(drop_slack=-0.9)  # one of them would do
    terms = Terms("night-1", 8, jobs=3000, deadline_s=HOUR_S, rules=rules)
    run = started(terms, CLOUD, count=3000)
    for rent in run.offered(*stock(6)):
        run.up(rent)
    run.tick(rules.plan_every_s - 1)
    run.offered(*stock(6))  # whatever happens, the fleet is looked at
    early = [held.error for held in run.scheduler.state.leases.values()]

    run.tick(1)
    run.offered(*stock(6))

    assert set(early) == {""}
    assert any("suffice" in held.error for held in run.scheduler.state.leases.values())


def test_where_there_are_many_machines_changes_are_looked_at_together() -> None:
    terms = Terms("night-1", CROWD + 1, jobs=40_000, deadline_s=HOUR_S)
    run = started(terms, CLOUD, count=40_000)
    first, second, *_ = run.offered(*stock(CROWD + 10))

    at_once = of(Rent, run.on(Lost(first.lease_id, "gone", Loss.GONE)))
    at_once += of(Rent, run.on(Released(first.lease_id, Decimal(0))))
    later = of(Rent, run.tick(CROWD_PAUSE_S))

    assert second.offer.ref != first.offer.ref
    assert at_once == []
    assert len(later) == 1


def test_a_machine_that_would_save_little_is_not_worth_the_change() -> None:
    run = started(Terms("night-1", 8, jobs=2000, deadline_s=30 * HOUR_S), CLOUD, count=2000)
    [rent] = run.offered(machine("first", "0.400"))
    run.up(rent)
    run.wait(Rules().swap_every_s + 60)

    assert run.offered(machine("second", "0.398")) == []


def test_a_machine_that_is_not_up_yet_goes_at_once_when_the_others_suffice() -> None:
    terms = Terms("night-1", 8, jobs=3000, deadline_s=HOUR_S)
    run = started(terms, CLOUD, count=3000)
    rents = run.offered(*stock(6), machine("dearest", "2.00"))
    for rent in rents[:-1]:
        run.up(rent)

    while of(Release, run.log) == []:
        run.tick(2)
        run.done_by_all(1.0)

    [release] = of(Release, run.log)
    assert run.leases[release.lease_id].offer.ref == "dearest"
    assert run.scheduler.state.leases[release.lease_id].ready_s == 0.0


def test_of_the_idle_machines_the_cheapest_stays() -> None:
    offers = [replace(each, slots=1) for each in (CHEAP, DEAR, machine("last", "0.50"))]
    run = billed_run(*offers, count=600, deadline_s=0.5 * HOUR_S)
    while run.scheduler.state.queue:
        run.done_by_all(6.0)
    for offer in (CHEAP, DEAR):
        run.finish(offer)

    [release] = of(Release, run.log)
    assert release.lease_id == run.lease_on(DEAR)


def test_idle_machines_go_but_one_stays_until_the_last_job_is_settled() -> None:
    run = billed_run(CHEAP, DEAR, count=450, deadline_s=0.5 * HOUR_S)
    assert len(run.leases) == 2
    while run.scheduler.state.queue:
        run.done_by_all(6.0)
    run.finish(DEAR)
    early = of(Release, run.log)

    commands = run.finish(CHEAP)

    assert early == []
    assert {each.lease_id for each in of(Release, run.log)} == set(run.leases)
    assert of(Release, commands)
