"""Which machines are rented, kept, dropped and avoided."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from nightkiln.core import market, recording
from nightkiln.core.events import (
    AskOffers,
    Blame,
    Command,
    Extend,
    FetchJobs,
    Lost,
    Offered,
    Owned,
    ProviderFailed,
    Queued,
    Release,
    Released,
    Rent,
    Started,
    Stop,
    Tick,
)
from nightkiln.core.fleet_rules import OFFERS_MAX
from nightkiln.core.job_rules import FETCH_MAX
from nightkiln.core.learning import Scores
from nightkiln.core.model import Kind, LeaseId, Loss, Offer
from nightkiln.core.priors import Priors
from nightkiln.core.scheduler import Scheduler
from nightkiln.core.terms import Fallback, Rules, Terms
from tests.core.table import (
    CHEAP,
    CLOUD,
    DEAR,
    FALLBACK,
    FAR,
    LOCAL,
    NEAR,
    Run,
    billed_run,
    free_run,
    function,
    jobs,
    machine,
    of,
    started,
)

HOUR_S = 3600.0


def stock(count: int, usd: str = "0.40") -> list[Offer]:
    return [machine(f"gpu-{number}", usd) for number in range(count)]


def refs(rents: list[Rent]) -> list[str]:
    return [rent.offer.ref for rent in rents]


def asked(commands: list[Command]) -> list[str]:
    return [each.provider for each in of(AskOffers, commands)]


# Before anything is rented.


def test_a_run_first_asks_for_jobs_and_for_machines_only_once_there_are_some() -> None:
    run = Run(Scheduler(Terms("night-1", 4)))

    assert run.on(Started(0.0, (LOCAL,))) == [FetchJobs(FETCH_MAX)]
    assert run.on(Queued(jobs(3), is_last=True)) == [AskOffers("local", OFFERS_MAX)]


def test_no_more_machines_of_ones_own_are_taken_than_there_are_jobs() -> None:
    run = started(Terms("night-1", 4), LOCAL, count=1)

    assert refs(run.offered(NEAR, FAR)) == [NEAR.ref]


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


def test_a_machine_that_would_save_little_is_not_worth_the_change() -> None:
    run = started(Terms("night-1", 8, jobs=2000, deadline_s=30 * HOUR_S), CLOUD, count=2000)
    [rent] = run.offered(machine("first", "0.400"))
    run.up(rent)
    run.wait(Rules().swap_every_s + 60)

    assert run.offered(machine("second", "0.398")) == []


def test_idle_machines_go_but_one_stays_until_the_last_job_is_settled() -> None:
    run = billed_run(CHEAP, DEAR, count=450, deadline_s=0.5 * HOUR_S)
    assert len(run.leases) == 2
    while len(run.scheduler.state.trying) > 1:
        attempt = max(run.scheduler.state.trying)
        run.done(next(each for each in run.submits if each.attempt_id == attempt))
    [last] = run.scheduler.state.trying

    commands = run.done(next(each for each in run.submits if each.attempt_id == last))

    assert {each.lease_id for each in of(Release, run.log)} == set(run.leases)
    assert of(Release, commands)


# The fallback.


def with_fallback(fallback: Fallback, *, count: int = 100, deadline_s: float = HOUR_S) -> Run:
    terms = Terms("night-1", 20, jobs=count, deadline_s=deadline_s, fallback=fallback)
    return started(terms, CLOUD, FALLBACK, count=count)


def test_the_fallback_waits_for_what_the_market_has_to_say() -> None:
    run = with_fallback(Fallback.AUTO)

    assert run.offered(function("slot-0")) == []
    assert refs(run.offered(CHEAP)) == ["cheap"]


@pytest.mark.parametrize(
    "answer", [Offered("cloud", ()), Offered("cloud", (replace(CHEAP, slots=0),))]
)
def test_a_market_with_nothing_usable_hands_the_work_to_the_fallback(answer: Offered) -> None:
    run = with_fallback(Fallback.AUTO)
    run.offered(function("slot-0"))

    assert refs(of(Rent, run.on(answer))) == ["slot-0"]


def test_a_market_whose_breaker_is_open_hands_the_work_to_the_fallback() -> None:
    run = with_fallback(Fallback.AUTO)
    run.offered(function("slot-0"))

    rents = [
        rent
        for _ in range(market.FAILURES_MAX)
        for rent in of(Rent, run.on(ProviderFailed("cloud", "503")))
    ]

    assert refs(rents) == ["slot-0"]


def test_without_fallback_the_run_waits_for_the_market() -> None:
    run = with_fallback(Fallback.NEVER)
    run.offered(function("slot-0"))

    assert of(Rent, run.on(Offered("cloud", ()))) == []
    assert of(Stop, run.wait(600)) == []


def test_fallback_only_rents_nothing_else() -> None:
    run = with_fallback(Fallback.ONLY)
    run.offered(CHEAP)

    assert refs(run.offered(function("slot-0"))) == ["slot-0"]


def test_at_the_point_of_no_return_the_fallback_starts_whatever_it_costs() -> None:
    run = with_fallback(Fallback.AUTO, count=900, deadline_s=2 * HOUR_S)
    slots = [function(f"slot-{number}") for number in range(4)]
    run.on(Offered("functions", tuple(slots)))
    [rent, *_] = run.offered(*stock(3))  # they never come up

    rented_s: list[float] = []
    while run.now_s < 2 * HOUR_S and not rented_s:
        run.tick(20)
        for commands in (run.on(Offered("functions", tuple(slots))), run.on(Offered("cloud", ()))):
            rented_s += [run.now_s for each in of(Rent, commands) if each.offer.is_serverless]

    capacity_s = 900 * 6.0 / len(slots)
    assert rent.offer.ref.startswith("gpu")
    assert rented_s, "it never started"
    assert rented_s[0] + capacity_s < 2 * HOUR_S


def test_of_both_ways_to_have_a_machine_the_learned_outbid_rate_decides() -> None:
    safe, risky = machine("gpu", "0.40"), machine("gpu", "0.36", Kind.INTERRUPTIBLE)
    calm = started(Terms("night-1", 8, jobs=500), CLOUD, count=500)
    stormy = started(Terms("night-1", 8, jobs=500), CLOUD, count=500)
    for _ in range(40):
        stormy.scheduler.state.knowledge.held(risky, 0.1, was_lost=True)
        calm.scheduler.state.knowledge.held(risky, 2.0, was_lost=False)

    assert [rent.offer.kind for rent in calm.offered(safe, risky)] == [Kind.INTERRUPTIBLE]
    assert [rent.offer.kind for rent in stormy.offered(safe, risky)] == [Kind.ON_DEMAND]


# Providers and machines to leave alone.


def test_a_provider_that_fails_again_and_again_is_left_alone_for_a_while() -> None:
    run = started(Terms("night-1", 8, jobs=5), CLOUD, count=5)
    for _ in range(market.FAILURES_MAX):
        run.on(ProviderFailed("cloud", "503"))
        if run.scheduler.state.market.shops["cloud"].breaker.failures < market.FAILURES_MAX:
            run.tick(Rules().offers_every_s)

    during = run.wait(market.PAUSE_S - 1, step_s=5.0)
    after = run.wait(10, step_s=5.0)

    assert asked(during) == []
    assert asked(after) == ["cloud"]


def test_an_open_breaker_stays_open_twice_as_long_each_time_up_to_a_limit() -> None:
    breaker = market.Breaker()
    for _ in range(market.FAILURES_MAX):
        breaker.failed(0.0, "503")
    pauses = [breaker.open_until_s]
    for _ in range(9):
        breaker.failed(0.0, "503")
        pauses.append(breaker.open_until_s)

    assert pauses[:4] == [60.0, 120.0, 240.0, 480.0]
    assert pauses[-1] == market.PAUSE_S_MAX
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


# Life of a lease.


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
    run = billed_run(CHEAP, count=50)

    commands = run.tick(recording.JUMP_S + 1)

    assert [type(each).__name__ for each in commands[:1]] == ["ListOwned"]
    stranger = LeaseId("of a dead run")
    released = run.on(Owned("cloud", (run.lease_on(CHEAP), stranger)))
    assert [each.lease_id for each in of(Release, released)] == [stranger]
    assert run.on(Owned("cloud", (stranger,))) == []


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
