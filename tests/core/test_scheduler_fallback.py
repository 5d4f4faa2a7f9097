"""The order of resort: when serverless GPUs are rented, and which way to have a machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import pytest

from nightkiln.core import market
from nightkiln.core.events import (
    Offered,
    ProviderFailed,
    Released,
    Rent,
    Stop,
)
from nightkiln.core.learning import Scores
from nightkiln.core.model import Kind, Offer
from nightkiln.core.priors import Priors
from nightkiln.core.state import Phase
from nightkiln.core.terms import Fallback, Load, Rules, Terms
from tests.core.table import (
    CHEAP,
    CLOUD,
    FALLBACK,
    Run,
    function,
    machine,
    of,
    refs,
    started,
    stock,
)

HOUR_S = 3600.0
SLOT_JOBS = 3600  # that one slot does in time, at a second each
STARTS_S = Priors().serverless_startup_s
NEVER = 1e9  # a share that no shortfall reaches


def serverless(run: Run) -> list[Rent]:
    return [rent for rent in of(Rent, run.log) if rent.offer.is_serverless]


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
    deadline_s = 2 * HOUR_S
    terms = Terms("night-1", 400, jobs=900, deadline_s=deadline_s)
    run = started(terms, CLOUD, FALLBACK, count=900)
    slots = tuple(function(f"slot-{number}") for number in range(4))

    while run.now_s < deadline_s and not serverless(run):
        run.tick(20)
        run.on(Offered("functions", slots))
        new = [machine(f"gpu-{run.now_s}-{number}") for number in range(4)]
        run.on(Offered("cloud", tuple(new)))  # cheap, but none comes up

    rents = serverless(run)
    assert all("point of no return" in each.reason for each in rents)
    assert len(rents) == len(slots)
    assert run.now_s + 900 * 6.0 / len(slots) < deadline_s


@pytest.mark.parametrize("fallback", [Fallback.NEVER, Fallback.AUTO])
def test_the_fallback_stays_out_while_machines_that_are_up_suffice(fallback: Fallback) -> None:
    run = with_fallback(fallback, count=100, deadline_s=2 * HOUR_S)
    run.on(Offered("functions", (function("slot-0"),)))
    for rent in run.offered(*stock(3)):
        run.up(rent)

    for _ in range(10):
        run.tick(20)
        run.on(Offered("functions", (function("slot-0"),)))
        run.done_by_all(6.0)

    assert serverless(run) == []


def test_of_both_ways_to_have_a_machine_the_learned_outbid_rate_decides() -> None:
    safe, risky = machine("gpu", "0.40"), machine("gpu", "0.36", Kind.INTERRUPTIBLE)
    calm = started(Terms("night-1", 8, jobs=500), CLOUD, count=500)
    stormy = started(Terms("night-1", 8, jobs=500), CLOUD, count=500)
    for _ in range(40):
        stormy.scheduler.state.knowledge.held(risky, 0.1, was_lost=True)
        calm.scheduler.state.knowledge.held(risky, 2.0, was_lost=False)

    assert [rent.offer.kind for rent in calm.offered(safe, risky)] == [Kind.INTERRUPTIBLE]
    assert [rent.offer.kind for rent in stormy.offered(safe, risky)] == [Kind.ON_DEMAND]


def test_the_fallback_takes_no_more_slots_than_the_rest_needs() -> None:
    run = with_fallback(Fallback.AUTO, count=400, deadline_s=HOUR_S)
    slots = tuple(function(f"slot-{number}") for number in range(10))
    run.on(Offered("functions", slots))

    rents = of(Rent, run.on(Offered("cloud", ())))

    assert 1 <= len(rents) <= 3  # 400 jobs of 6 s are 40 minutes


def slots_beside_a_canary(
    count: int, slots: int, rules: Rules, gpus: Sequence[str] = ("L40S",)
) -> list[Rent]:
    """What the fallback gets of an unproven workflow, for which no other machine is rented yet."""
    deadline_s = STARTS_S + SLOT_JOBS
    terms = Terms("night-1", 20, jobs=count, deadline_s=deadline_s, rules=rules)
    priors = Priors(seconds_unknown=1.0)
    run = started(terms, CLOUD, FALLBACK, count=count, scores=Scores(), priors=priors)
    run.on(Offered("cloud", (CHEAP,)))
    choices = [
        replace(function(f"{gpu}-{number}"), gpu=gpu, machine=f"slot-{number}")
        for gpu in gpus
        for number in range(slots)
    ]
    run.on(Offered("functions", tuple(choices)))
    return serverless(run)


@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize(
    ("rules", "share", "said"),
    [
        (Rules(fallback_share=0.5, no_return_share=NEVER), 0.5, "nothing else would be in time"),
        (Rules(fallback_share=NEVER, no_return_share=0.75), 0.75, "point of no return"),
    ],
)
def test_a_shortfall_of_more_than_its_share_of_the_fallback_starts_it(
    rules: Rules, share: float, said: str, slots: int
) -> None:
    rules, just = replace(rules, canary_leases_max=0), int(share * slots * SLOT_JOBS)

    assert slots_beside_a_canary(just, slots, rules) == []
    rents = slots_beside_a_canary(just + 1, slots, rules)
    assert len(rents) == slots
    assert all(said in rent.reason for rent in rents)


def test_a_slot_that_can_be_had_with_several_gpus_is_one_slot() -> None:
    rules = Rules(fallback_share=0.5, no_return_share=NEVER, canary_leases_max=0)

    rents = slots_beside_a_canary(SLOT_JOBS // 2 + 1, 1, rules, gpus=("L40S", "A100", "H100"))

    assert refs(rents) == ["L40S-0"]


def test_a_slot_that_was_given_back_is_not_asked_for_again() -> None:
    run = started(Terms("night-1", 4, jobs=9, deadline_s=HOUR_S), FALLBACK, count=9)
    [rent] = run.offered(function("slot-0"))
    run.up(rent)
    run.on(Released(rent.lease_id))

    assert of(Rent, run.wait(100)) == []
    assert refs(run.offered(function("slot-1"))) == ["slot-1"]


def test_a_slot_that_came_for_machines_not_up_yet_stays_until_they_are() -> None:
    rules = Rules(fallback_share=0.01, no_return_share=0.8, swaps=False, drop_slack=-0.9)
    terms = Terms("night-1", 20, jobs=3000, deadline_s=STARTS_S + SLOT_JOBS, rules=rules)
    run = started(terms, CLOUD, FALLBACK, count=3000, priors=Priors(seconds_unknown=1.0))
    run.on(Offered("functions", (function("slot-0", "90.00"),)))
    run.offered(*stock(8))
    [slot] = serverless(run)
    run.up(slot)

    run.wait(3 * rules.plan_every_s, step_s=rules.plan_every_s)

    assert run.scheduler.state.leases[slot.lease_id].phase is Phase.READY


def slots_for_few(left_s: float, *others: Offer) -> list[str]:
    """What is rented for so few jobs that a container of the fallback is the cheapest for them."""
    terms = Terms("night-1", 20, jobs=20, deadline_s=left_s, load=Load(models_gb=50.0))
    run = started(terms, CLOUD, FALLBACK, count=20, priors=Priors(seconds_unknown=6.0))
    run.on(Offered("functions", (function("slot-0", "1.00"),)))
    return refs(of(Rent, run.on(Offered("cloud", others))))


def test_for_a_few_jobs_the_fallback_comes_when_they_keep_it_busy_and_not_before() -> None:
    traffic = replace(machine("far"), usd_per_gb_in=Decimal("0.02"))

    assert slots_for_few(2 * HOUR_S, traffic) == []
    assert slots_for_few(280.0, traffic) == ["slot-0"]


def test_for_a_few_jobs_the_fallback_comes_at_once_where_there_is_no_market() -> None:
    assert slots_for_few(2 * HOUR_S) == ["slot-0"]


def test_machines_that_still_start_count_for_the_first_trigger_and_not_for_the_last() -> None:
    """Eight that start would do all of it; until they are up, the fallback alone could not."""
    count, rules = 3000, Rules(fallback_share=0.01, no_return_share=0.9)
    nearly_all = Rules(fallback_share=0.01, no_return_share=0.8)
    started_by = {}
    for name, each in (("none", rules), ("no return", nearly_all)):
        terms = Terms("night-1", 20, jobs=count, deadline_s=STARTS_S + SLOT_JOBS, rules=each)
        run = started(terms, CLOUD, FALLBACK, count=count, priors=Priors(seconds_unknown=1.0))
        run.on(Offered("functions", (function("slot-0", "90.00"),)))
        run.offered(*stock(8))
        started_by[name] = [rent.reason for rent in serverless(run)]

    assert started_by["none"] == []
    assert len(started_by["no return"]) == 1
    assert "point of no return" in started_by["no return"][0]
