"""Measured seconds in a simulated market: what a run would expect of them, and no more."""

from __future__ import annotations

from dataclasses import replace
from math import log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightkiln.core.learning import Knowledge, Pace, Scores
from nightkiln.core.priors import gpu_class
from nightkiln.core.terms import Load
from nightkiln.priors import shipped_priors
from nightkiln.rehearse import Script, measured_in, play, with_jobs
from nightkiln.store.scores import Remembered
from nightkiln.testing.market import Market, shipped_market

PRIORS = shipped_priors()
MARKET = shipped_market()
SEEN_S = 1_795_255_983.0
H_S = 3600.0
RENTED = [gpu_class(name) for name in MARKET.classes]


def remembered(*seen: tuple[str, float], jobs: float = 8) -> Remembered:
    """Machines by GPU and seconds per job, as a store remembers them."""
    paces, seen_s = {}, {}
    for number, (gpu, seconds) in enumerate(seen):
        prior = PRIORS.seconds_per_job.get(gpu, PRIORS.seconds_unknown)
        paces["local", f"http://m-{number}"] = Pace(gpu, jobs, log(seconds / prior))
        seen_s["local", f"http://m-{number}"] = SEEN_S + number
    return Remembered(scores=Scores(machines=paces), seen_s=seen_s)


def script(found: Remembered, *, market: Market = MARKET, lump: int = 1) -> Script:
    plain = Script(with_jobs(market, 200), 2 * H_S, lump=lump)
    return plain.with_measured(measured_in(market, found, PRIORS))


def seconds(script: Script) -> dict[str, float]:
    return {name: facts.seconds_per_job for name, facts in script.market.classes.items()}


def test_where_nothing_was_measured_the_market_file_speaks() -> None:
    plain = script(Remembered())

    assert plain.measured is None
    assert plain.basis == "market file"
    assert plain.market.classes == MARKET.classes
    assert plain.night_market(1) == plain.market


@given(st.lists(st.tuples(st.sampled_from(RENTED), st.floats(0.01, 600.0)), min_size=1, max_size=6))
def test_the_market_takes_what_a_run_would_expect_of_the_same_scores(
    seen: list[tuple[str, float]],
) -> None:
    found = remembered(*seen)

    measured = script(found)

    run = Knowledge(PRIORS, Load(), found.scores)
    for name, each in seconds(measured).items():
        assert each == pytest.approx(run.class_pace(gpu_class(name))[0])
    assert measured.basis == "measured"


@given(st.sampled_from(RENTED), st.floats(0.05, 100.0), st.integers(1, 20))
def test_a_rehearsed_scheduler_believes_what_a_real_one_would(
    gpu: str, each: float, lump: int
) -> None:
    measured = script(remembered((gpu, each)), lump=lump)

    scores = measured.scores(measured.night(1))
    rehearsed = Knowledge(measured.priors, measured.load, scores)

    for name, true_s in seconds(measured).items():
        believed_s, doubt = rehearsed.class_pace(gpu_class(name))
        assert believed_s == pytest.approx(true_s * lump)
        assert doubt == pytest.approx(measured.measured.doubt[name] if measured.measured else 0)


def test_many_machines_of_a_class_outweigh_the_table() -> None:
    measured = script(remembered(*[("RTX 4090", 1.0)] * 12))

    assert seconds(measured)["RTX_4090"] == pytest.approx(1.0, rel=0.1)


def test_what_one_class_showed_is_expected_of_the_others_in_proportion() -> None:
    twice = seconds(script(remembered(("RTX 4090", 8.8))))

    plain = {name: facts.seconds_per_job for name, facts in MARKET.classes.items()}
    assert all(1.5 < twice[name] / plain[name] < 2.0 for name in plain)
    assert max(twice, key=lambda name: twice[name] / plain[name]) == "RTX_4090"


def test_a_class_that_a_table_knows_says_something_although_nobody_rents_it_out() -> None:
    measured = script(remembered(("L4", 30.0)))  # twice its figure

    assert measured.basis == "measured"
    assert measured.measured is not None
    [l4] = measured.measured.classes
    assert (l4.is_compared, l4.is_for_rent, l4.jobs, l4.seen_s) == (True, False, 8, SEEN_S)
    assert seconds(measured)["RTX_4090"] > 1.5 * MARKET.classes["RTX_4090"].seconds_per_job


def test_a_processor_that_no_table_knows_says_nothing_of_what_is_for_rent() -> None:
    measured = script(remembered(("CPU", 0.05)))

    assert measured.basis == "measured elsewhere"
    assert measured.market.classes == MARKET.classes
    assert measured.priors == script(Remembered()).priors


def test_a_class_that_only_the_market_file_knows_is_told_against_its_figure_there() -> None:
    odd = replace(MARKET, classes={"ODD_1": MARKET.classes["RTX_3090"], **MARKET.classes})

    measured = script(remembered(("ODD 1", 16.0)), market=odd)  # twice what the file says

    assert 12.0 < seconds(measured)["ODD_1"] <= 16.0
    assert seconds(measured)["RTX_4090"] > 1.5 * MARKET.classes["RTX_4090"].seconds_per_job


def test_the_seconds_shown_are_the_measured_ones() -> None:
    found = remembered(("RTX 4090", 3.0), ("RTX 4090", 3.0), ("CPU", 50.0), jobs=4)

    measured = script(found).measured

    assert measured is not None
    assert [(one.gpu, one.jobs, one.machines) for one in measured.classes] == [
        ("RTX 4090", 8, 2),
        ("CPU", 4, 1),
    ]
    assert [one.seconds_per_job for one in measured.classes] == pytest.approx([3.0, 50.0])
    assert measured.classes[0].seen_s == SEEN_S + 1


@given(st.integers(0, 1000))
def test_a_night_is_as_far_off_as_the_doubt_says_for_all_classes_at_once(seed: int) -> None:
    measured = script(remembered(("RTX 4090", 2.0)))

    market = measured.night_market(seed)

    off = {
        name: log(facts.seconds_per_job / measured.market.classes[name].seconds_per_job)
        for name, facts in market.classes.items()
    }
    assert measured.measured is not None
    standard = [off[name] / measured.measured.doubt[name] for name in off]
    assert standard == pytest.approx([standard[0]] * len(standard))
    assert abs(standard[0]) < 6
    assert market == measured.night_market(seed), "the same night is the same again"


def test_nights_differ_by_how_fast_the_workflow_truly_is() -> None:
    measured = script(remembered(("RTX 4090", 2.0)))

    true_s = {measured.night_market(seed).classes["RTX_4090"].seconds_per_job for seed in range(8)}

    assert len(true_s) == 8


@settings(max_examples=3)
@given(st.integers(0, 100))
def test_a_night_with_measured_seconds_is_played_to_its_end(seed: int) -> None:
    quick = script(remembered(("RTX 4090", 0.5)), lump=5)

    played = play(quick, seed)

    assert played.jobs_done + played.jobs_failed + played.jobs_left == pytest.approx(200)
    assert played.is_met
