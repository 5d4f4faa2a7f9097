"""What happened changes what is expected, in the right direction and no further."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.core.learning import STARTUP_RATIO_MAX, Knowledge, Scores
from nightkiln.core.model import Kind
from nightkiln.core.priors import Priors, gpu_class
from nightkiln.core.terms import Load
from tests.core.table import FAR, NEAR, function, machine

PRIORS = Priors(seconds_per_job={"RTX 4090": 6.0, "RTX 3090": 12.0})
LOAD = Load(image_gb=5.0, models_gb=7.0)
ONE, OTHER = machine("one"), machine("other")
OLDER = replace(machine("older"), gpu="NVIDIA GeForce RTX 3090")
RISKY = machine("risky", kind=Kind.INTERRUPTIBLE)


def knowledge(scores: Scores | None = None) -> Knowledge:
    return Knowledge(PRIORS, LOAD, scores)


# Speed.


def test_before_anything_is_known_the_table_speaks() -> None:
    unknown = replace(ONE, gpu="Unheard of 1")

    assert knowledge().pace(ONE)[0] == pytest.approx(6.0)
    assert knowledge().pace(OLDER)[0] == pytest.approx(12.0)
    assert knowledge().pace(unknown)[0] == pytest.approx(PRIORS.seconds_unknown)


def test_a_class_is_the_same_under_all_its_names() -> None:
    names = ("NVIDIA GeForce RTX 4090", "RTX_4090", "rtx-4090", "GeForce RTX 4090")

    assert {gpu_class(name) for name in names} == {"RTX 4090"}
    assert gpu_class("NVIDIA") == "NVIDIA"


def test_a_machines_own_measurements_outweigh_the_table() -> None:
    known = knowledge()
    for _ in range(50):
        known.rendered(ONE, 9.0)

    assert known.pace(ONE)[0] == pytest.approx(9.0, rel=0.02)


def test_what_one_machine_shows_is_expected_of_its_class_and_less_of_others() -> None:
    known = knowledge()
    for number in range(8):
        known.rendered(machine(f"gpu-{number}"), 12.0)  # twice as long as the table says

    same, older = known.pace(OTHER)[0] / 6.0, known.pace(OLDER)[0] / 12.0

    assert 1.6 < same < 2.0
    assert 1.3 < older < same


def test_a_class_that_no_table_knows_says_nothing_of_the_others() -> None:
    known, processor = knowledge(), replace(machine("mine"), gpu="cpu")
    for _ in range(50):
        known.rendered(processor, 600.0)

    assert known.pace(processor)[0] == pytest.approx(600.0, rel=0.05)
    assert known.pace(ONE)[0] == pytest.approx(6.0)


def test_the_pace_of_a_class_is_that_of_a_machine_without_luck() -> None:
    known = knowledge()
    for number in range(8):
        known.rendered(machine(f"gpu-{number}"), 12.0)

    seconds, doubt = known.class_pace(gpu_class(OTHER.gpu))

    assert seconds == pytest.approx(known.pace(OTHER)[0])
    assert doubt < known.pace(OTHER)[1]


def test_doubt_shrinks_with_every_machine_and_every_job() -> None:
    known, doubts = knowledge(), []
    for number in range(6):
        doubts.append(known.pace(OTHER)[1])
        known.rendered(machine(f"gpu-{number}"), 6.0)
    before = known.pace(OTHER)[1]
    known.rendered(OTHER, 6.0)

    assert doubts == sorted(doubts, reverse=True)
    assert known.pace(OTHER)[1] < before


@given(st.lists(st.floats(0.01, 10_000.0), max_size=30))
def test_the_expectation_stays_between_the_table_and_what_was_seen(seen: list[float]) -> None:
    known = knowledge()
    for seconds in seen:
        known.rendered(ONE, seconds)

    low, high = min([6.0, *seen]), max([6.0, *seen])
    assert low * 0.999 <= known.pace(ONE)[0] <= high * 1.001
    assert known.pace(ONE)[1] >= 0


def test_a_time_that_cannot_be_is_counted_but_not_learned_from() -> None:
    known = knowledge()
    known.rendered(ONE, 0.0)
    known.rendered(ONE, -5.0)

    assert known.pace(ONE)[0] == pytest.approx(6.0)
    assert known.scores.workflow_jobs == 2


def test_the_99th_percentile_grows_with_the_spread_between_jobs() -> None:
    steady, wild = knowledge(), knowledge()
    for number in range(100):
        steady.rendered(ONE, 6.0)
        wild.rendered(ONE, 3.0 if number % 2 else 12.0)

    assert 6.0 < steady.job_p99_s(ONE) < 9.0
    assert wild.job_p99_s(ONE) > 2 * steady.job_p99_s(ONE)


def test_tonight_starts_from_last_night() -> None:
    last = knowledge()
    for number in range(5):
        for _ in range(20):
            last.rendered(machine(f"gpu-{number}"), 9.0)

    tonight = knowledge(last.scores)

    assert tonight.pace(OTHER) == last.pace(OTHER)
    assert tonight.pace(machine("gpu-3"))[0] == pytest.approx(9.0, rel=0.03)


def test_before_the_first_job_all_three_doubts_add_up() -> None:
    workflow, own_class, machine_s = 0.5, 0.12, 0.17

    assert knowledge().pace(ONE)[1] == pytest.approx(
        (workflow**2 + own_class**2 + machine_s**2) ** 0.5
    )


def test_one_job_counts_against_the_spread_between_machines() -> None:
    """By Bayes: jobs scatter by 0.1, machines by 0.17, so one job is believed to three quarters."""
    known = knowledge()
    known.rendered(ONE, 9.0)

    expected = log(known.pace(OTHER)[0] / 6.0)
    trust = 1 / (1 + 0.1**2 / 0.17**2)
    assert log(known.pace(ONE)[0] / 6.0) == pytest.approx(
        expected + trust * (log(9.0 / 6.0) - expected)
    )


def test_luck_of_a_machine_under_another_workflow_is_believed_of_this_one() -> None:
    known = knowledge(Scores(luck={ONE.host_key: 0.3}))

    assert known.pace(ONE)[0] == pytest.approx(6.0 * exp(0.3))
    assert known.pace(ONE)[1] < known.pace(OTHER)[1]


def test_a_knowledge_that_does_not_learn_keeps_to_the_table() -> None:
    known = knowledge()
    known.learns = False
    for _ in range(20):
        known.rendered(ONE, 60.0)
        known.started(ONE, 5000.0)
        known.held(RISKY, 1.0, was_lost=True)

    assert known.pace(ONE)[0] == pytest.approx(6.0)
    assert known.startup(ONE) == knowledge().startup(ONE)
    assert known.lost_per_h(RISKY) == knowledge().lost_per_h(RISKY)


# Start-up.


def test_a_slow_link_and_big_models_make_a_long_start() -> None:
    fast = replace(ONE, mbps_in=2000.0)
    slow = replace(ONE, mbps_in=200.0)
    small = Knowledge(PRIORS, Load(image_gb=1.0))

    assert knowledge().startup(slow)[0] > 2 * knowledge().startup(fast)[0]
    assert small.startup(slow)[0] < knowledge().startup(slow)[0]


def test_loading_is_a_part_of_the_start() -> None:
    total_s, loading_s = knowledge().startup(ONE)

    assert 0 < loading_s < total_s


def test_local_and_serverless_machines_start_by_themselves() -> None:
    known = knowledge()
    before = known.startup(NEAR), known.startup(function("slot"))
    known.started(NEAR, 900.0)
    known.boot_failed(function("slot"))

    assert (known.startup(NEAR), known.startup(function("slot"))) == before
    assert known.boot_fails(FAR) == known.boot_fails(function("slot")) == 0.0
    assert known.lost_per_h(NEAR) == known.lost_per_h(function("slot")) == 0.0
    assert known.scores == Scores()


def test_one_odd_start_is_not_believed_further_than_its_bound() -> None:
    known = knowledge()
    usual_s = known.startup(ONE)[0]

    known.started(ONE, 1e9)

    assert usual_s < known.startup(OTHER)[0] < STARTUP_RATIO_MAX * usual_s


def test_failed_starts_raise_the_chance_of_the_next_and_good_ones_lower_it() -> None:
    bad, good = knowledge(), knowledge()
    for number in range(10):
        bad.boot_failed(machine(f"gpu-{number}"))
        good.started(machine(f"gpu-{number}"), 300.0)

    assert good.boot_fails(OTHER) < knowledge().boot_fails(OTHER) < bad.boot_fails(OTHER) <= 0.9


def test_an_unreliable_host_fails_more_often() -> None:
    shaky, known = replace(ONE, reliability=0.6), knowledge()

    assert known.boot_fails(shaky) > 2 * known.boot_fails(ONE)
    assert known.lost_per_h(shaky) > 2 * known.lost_per_h(ONE)


@pytest.mark.parametrize("reliability", [0.8, 0.95, 0.999])
def test_what_a_host_advertises_tells_by_bayes_whether_it_is_a_bad_one(reliability: float) -> None:
    """6 in 100 are bad; good ones advertise by Beta(60, 1), bad ones by Beta(12, 1)."""
    offer = replace(ONE, reliability=reliability)
    good, bad = 60 * reliability**59, 12 * reliability**11
    is_bad = 0.06 * bad / (0.06 * bad + 0.94 * good)

    assert knowledge().lost_per_h(offer) == pytest.approx(is_bad * 0.15 + (1 - is_bad) * 0.01)


# Losses.


def test_being_outbid_is_learned_for_the_class_first_and_for_all_a_little() -> None:
    known = knowledge()
    for _ in range(10):
        known.held(RISKY, 0.5, was_lost=True)
    other_class = replace(OLDER, kind=Kind.INTERRUPTIBLE)

    own, other, before = (
        known.lost_per_h(RISKY),
        known.lost_per_h(other_class),
        knowledge().lost_per_h(RISKY),
    )

    assert before < other < own


def test_calm_hours_lower_the_outbid_rate() -> None:
    known = knowledge()
    for _ in range(20):
        known.held(RISKY, 2.0, was_lost=False)

    assert known.lost_per_h(RISKY) < 0.5 * knowledge().lost_per_h(RISKY)


def test_losses_of_rented_machines_are_learned_apart_from_outbids() -> None:
    known = knowledge()
    for _ in range(10):
        known.held(ONE, 1.0, was_lost=True)

    assert known.lost_per_h(ONE) > 2 * knowledge().lost_per_h(ONE)
    assert known.scores.outbid == {}


def test_leases_that_are_still_ours_count_as_hours_without_a_loss() -> None:
    known = knowledge()
    known.held(RISKY, 0.5, was_lost=True)
    known.look_again(0.0, 3600.0)
    alarmed = known.lost_per_h(RISKY)

    known.look_again(0.0, 3600.0, [(RISKY, 5.0), (RISKY, 5.0), (ONE, 100.0)])

    assert known.lost_per_h(RISKY) < alarmed / 2


def test_a_price_counts_on_more_losses_than_are_known_for_sure_and_less_so_with_time() -> None:
    known = knowledge()
    first = known.feared_per_h(RISKY) / known.lost_per_h(RISKY)
    for _ in range(100):
        known.held(RISKY, 3.0, was_lost=True)

    later = known.feared_per_h(RISKY) / known.lost_per_h(RISKY)

    assert first > 2
    assert 1 < later < 1.3
    assert known.feared_per_h(ONE) == known.lost_per_h(ONE)


def test_both_ways_to_have_one_machine_are_told_apart() -> None:
    known = knowledge()
    safe, risky = machine("same"), machine("same", kind=Kind.INTERRUPTIBLE)

    assert known.outlook(safe).lost_per_s < known.outlook(risky).lost_per_s


def test_an_outlook_is_kept_for_one_look_at_the_fleet() -> None:
    known = knowledge()
    before = known.outlook(ONE)
    for _ in range(9):
        known.rendered(ONE, 20.0)

    assert known.outlook(ONE) is before
    known.look_again(0.0, 3600.0)
    assert known.outlook(ONE).seconds_per_job > before.seconds_per_job
