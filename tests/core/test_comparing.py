"""What is told of a kind of GPU: USD per 1,000 jobs, finish and start-up share, on one basis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from math import inf, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightkiln.core.comparing import (
    Basis,
    Batch,
    BatchParts,
    Candidate,
    Expected,
    Line,
    PriceFrom,
    SecondsFrom,
    by_basis,
    expected,
    finish_s,
    middle,
    rank,
    seconds_from,
)
from nightkiln.core.learning import Outlook, Pace, Scores
from nightkiln.core.model import Kind, Offer
from nightkiln.core.pricing import Quoter
from nightkiln.core.priors import Priors
from nightkiln.core.terms import Load, Rules
from tests.core.table import SURE

H_S = 3600.0
LOAD = Load(image_gb=10.0, models_gb=2.0, result_gb=0.01)
CENT_A_MINUTE = Offer("vast", "a", "RTX 4090", Decimal("0.60"), kind=Kind.ON_DEMAND)
DEAR = replace(CENT_A_MINUTE, ref="dear", usd_per_hour=Decimal("6.00"))
BATCH = Batch(jobs=1000, deadline_s=8 * H_S, load=LOAD, machines_max=16)

outlooks = st.builds(
    Outlook,
    seconds_per_job=st.floats(0.01, 600),
    seconds_sd=st.just(0.1),
    startup_s=st.floats(0, 2000),
    startup_sd=st.just(0.5),
    loading_s=st.just(0.0),
    boot_fails=st.floats(0, 0.9),
    lost_per_s=st.floats(0, 1e-3),
    feared_per_s=st.just(0.0),
)
offers = st.builds(
    Offer,
    provider=st.just("vast"),
    ref=st.uuids().map(str),
    gpu=st.just("RTX 4090"),
    usd_per_hour=st.decimals("0.01", "10", places=2),
    kind=st.just(Kind.ON_DEMAND),
    storage_usd_per_hour=st.decimals("0", "0.1", places=3),
    usd_per_gb_in=st.decimals("0", "0.1", places=3),
    usd_per_gb_out=st.decimals("0", "0.1", places=3),
    idle_tail_s=st.floats(0, 60),
)
fleets = st.lists(st.builds(Candidate, offers, outlooks), min_size=1, max_size=8)


def of(*machines: Candidate, batch: Batch = BATCH) -> Expected:
    found = expected(machines, batch)
    assert found is not None
    return found


def sure(offer: Offer = CENT_A_MINUTE, **outlook: float) -> Candidate:
    return Candidate(offer, replace(SURE, **outlook))


def many(count: int, **outlook: float) -> Sequence[Candidate]:
    return [sure(replace(CENT_A_MINUTE, ref=str(n)), **outlook) for n in range(count)]


def test_a_machine_that_is_enough_is_told_by_its_start_and_its_work() -> None:
    found = of(sure())

    assert found.finish_s == pytest.approx(300 + 6000)
    assert found.usd_per_1000 == pytest.approx(0.05 + 1.00)
    assert found.startup_fraction == pytest.approx(0.05 / 1.05)
    assert (found.machines, found.is_late) == (1, False)


@given(offers, outlooks, st.integers(1, 10_000))
def test_it_says_what_a_run_ranks_by_where_nothing_can_be_lost(
    offer: Offer, outlook: Outlook, jobs: int
) -> None:
    outlook = replace(outlook, lost_per_s=0.0)

    found = of(Candidate(offer, outlook), batch=replace(BATCH, jobs=jobs, deadline_s=1e9))

    price = Quoter(LOAD, Rules()).price(offer, outlook, left_s=inf, shortfall=float(jobs))
    assert price is not None
    assert found.usd_per_1000 == pytest.approx(1000 * price.usd_per_job)


def test_disk_traffic_and_the_idle_window_are_told_apart() -> None:
    offer = replace(
        CENT_A_MINUTE,
        storage_usd_per_hour=Decimal("0.06"),
        usd_per_gb_in=Decimal("0.02"),
        usd_per_gb_out=Decimal("0.01"),
        idle_tail_s=60.0,
        loading_billed=0.0,
    )

    parts = of(sure(offer)).parts

    assert parts.startup == pytest.approx(100 / 6000), "loading is not billed there"
    assert parts.storage == pytest.approx(6300 * 0.06 / H_S)
    assert parts.network == pytest.approx(12 * 0.02 + 10 * 0.01)
    assert parts.idle == pytest.approx(0.01)
    assert parts.usd == pytest.approx(1.0 + 0.01667 + 0.105 + 0.34 + 0.01, abs=1e-4)


def test_each_container_pays_for_its_start_and_for_its_idle_window() -> None:
    slots = [replace(CENT_A_MINUTE, ref=str(n), idle_tail_s=15.0) for n in range(4)]
    hasty = replace(BATCH, deadline_s=2000.0)

    found = of(*(sure(slot, startup_s=60.0, loading_s=0.0) for slot in slots), batch=hasty)

    assert found.machines == 4
    assert found.parts.startup == pytest.approx(4 * 0.01)
    assert found.parts.idle == pytest.approx(4 * 0.0025)


def test_what_an_hour_is_worth_is_counted_until_the_batch_is_done() -> None:
    found = of(sure(), batch=replace(BATCH, own_usd_per_hour=2.0))

    assert found.parts.own_time == pytest.approx(2 * 6300 / H_S)
    assert found.startup_fraction == pytest.approx(0.05 / 1.05), "nobody is billed for it"


def test_more_machines_are_taken_where_the_time_they_save_pays_for_them() -> None:
    patient, hasty = (
        of(*many(16), batch=replace(BATCH, own_usd_per_hour=usd)) for usd in (0.01, 2.0)
    )

    assert patient.machines == 1
    assert 1 < hasty.machines < 16
    assert hasty.usd_per_1000 < of(sure(), batch=replace(BATCH, own_usd_per_hour=2.0)).usd_per_1000


def test_a_free_machine_has_no_share_that_goes_to_its_start() -> None:
    own = Offer("local", "mine", "RTX 4090")

    found = of(sure(own))

    assert (found.usd_per_1000, found.startup_fraction) == (0.0, None)


def test_a_machine_that_is_lost_starts_anew_and_finishes_later() -> None:
    lost = of(sure(lost_per_s=1 / H_S))

    assert lost.finish_s == pytest.approx(300 + 6000 * (1 + 300 / H_S))
    assert lost.parts.startup == pytest.approx((1 + 6000 / H_S) * 0.05)
    assert lost.parts.rendering == pytest.approx(1.0), "work is work"


def test_starts_that_fail_cost_half_of_a_good_one() -> None:
    shaky = of(sure(boot_fails=0.5))

    assert shaky.parts.startup == pytest.approx(1.5 * 0.05)
    assert shaky.finish_s == pytest.approx(1.5 * 300 + 6000)


def test_no_more_machines_are_taken_than_the_deadline_needs() -> None:
    one, four = of(*many(8)), of(*many(8), batch=replace(BATCH, deadline_s=2000.0))

    assert (one.machines, four.machines) == (1, 4)
    assert four.finish_s == pytest.approx(300 + 1500)
    assert four.usd_per_1000 == pytest.approx(4 * 0.05 + 1.0)


def test_the_cheapest_machines_are_taken_first() -> None:
    assert of(sure(DEAR), sure()).usd_per_1000 == of(sure()).usd_per_1000


def test_where_all_there_are_is_not_enough_that_is_said() -> None:
    found = of(*many(2), batch=replace(BATCH, deadline_s=1000.0))

    assert (found.machines, found.is_late) == (2, True)
    assert found.finish_s == pytest.approx(300 + 3000)


def test_what_would_not_be_up_in_time_is_not_compared() -> None:
    assert expected([sure()], replace(BATCH, deadline_s=300.0)) is None
    assert expected([], BATCH) is None


def test_a_machine_with_two_offers_is_one_machine() -> None:
    twice = [sure(replace(CENT_A_MINUTE, ref=ref, machine="m")) for ref in ("ask-1", "ask-2")]

    assert of(*twice, batch=replace(BATCH, deadline_s=2000.0)).machines == 1


@given(fleets, st.integers(1, 100_000), st.floats(60, 1e5))
def test_the_jobs_are_done_by_the_finish_and_no_earlier(
    fleet: list[Candidate], jobs: int, deadline_s: float
) -> None:
    until_s = finish_s(fleet, jobs)

    done = sum(one.worked_s(until_s) / one.outlook.seconds_per_job for one in fleet)
    assert done == pytest.approx(jobs, rel=1e-6)
    found = expected(fleet, replace(BATCH, jobs=jobs, deadline_s=deadline_s))
    if found is not None:
        assert found.is_late == (found.finish_s > deadline_s)
        assert 1 <= found.machines <= min(len(fleet), jobs)
        assert found.parts.usd > 0
        assert 0 <= (found.startup_fraction or 0) < 1


@given(fleets, st.builds(Candidate, offers, outlooks), st.integers(1, 1000))
def test_a_further_machine_never_makes_it_later(
    fleet: list[Candidate], more: Candidate, jobs: int
) -> None:
    assert finish_s([*fleet, more], jobs) <= finish_s(fleet, jobs) * (1 + 1e-9)


# What it rests on.

TABLE = Priors(seconds_per_job={"RTX 4090": 4.4, "L40S": 4.8})


def test_seconds_are_measured_where_this_class_has_rendered_this_workflow() -> None:
    seen = Scores(machines={("local", "here"): Pace("RTX 4090", 8, log(2))})

    assert seconds_from("RTX 4090", seen, TABLE) is SecondsFrom.MEASURED
    assert seconds_from("L40S", seen, TABLE) is SecondsFrom.CARRIED
    assert seconds_from("B300", seen, TABLE) is None, "a bare guess is not told"


def test_a_class_that_no_table_knows_says_nothing_of_others() -> None:
    seen = Scores(machines={("local", "here"): Pace("CPU", 8, log(20))})

    assert seconds_from("CPU", seen, TABLE) is SecondsFrom.MEASURED
    assert seconds_from("L40S", seen, TABLE) is SecondsFrom.TABLE


def test_a_machine_that_has_done_nothing_has_measured_nothing() -> None:
    seen = Scores(machines={("local", "here"): Pace("RTX 4090")})

    assert seconds_from("RTX 4090", seen, TABLE) is SecondsFrom.TABLE


FIGURES = Expected(1000, 1, 4.4, 0.5, 5000.0, False, BatchParts(rendering=1.0), 0.1)
lines = st.builds(
    Line,
    provider=st.sampled_from(["vast", "modal", "local"]),
    gpu=st.sampled_from(["RTX 4090", "L40S"]),
    kind=st.sampled_from(Kind),
    basis=st.builds(Basis, st.sampled_from(SecondsFrom), st.sampled_from(PriceFrom)),
    expected=st.builds(
        lambda usd, is_late: replace(FIGURES, parts=BatchParts(rendering=usd), is_late=is_late),
        st.floats(0, 100),
        st.booleans(),
    ),
)


@given(st.lists(lines, max_size=20))
def test_only_lines_of_one_basis_are_ranked_against_each_other(found: list[Line]) -> None:
    groups = by_basis(found)

    assert sorted(map(id, found)) == sorted(id(one) for group in groups.values() for one in group)
    for basis, group in groups.items():
        assert {one.basis for one in group} == {basis}
        ranks = [rank(one, group) for one in group]
        timely = [one for one in group if not one.expected.is_late]
        assert [each for each in ranks if each is not None] == sorted(
            rank(one, timely) or 0 for one in timely
        )
        assert ranks[len(timely) :] == [None] * (len(group) - len(timely)), "late ones come last"
        assert [one.expected.usd_per_1000 for one in timely] == sorted(
            one.expected.usd_per_1000 for one in timely
        )


@given(st.lists(st.floats(0, 100), min_size=1, max_size=9))
def test_of_several_moments_the_one_in_the_middle_is_told(usd: list[float]) -> None:
    found = [replace(FIGURES, parts=BatchParts(rendering=each)) for each in usd]

    told = middle(found).usd_per_1000

    assert sum(one.usd_per_1000 <= told for one in found) * 2 >= len(usd)
    assert sum(one.usd_per_1000 >= told for one in found) * 2 >= len(usd)
