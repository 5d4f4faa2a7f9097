"""What becomes of a job, drawn for one machine and one night."""

from __future__ import annotations

from dataclasses import replace
from statistics import mean

import pytest

from nightkiln.core.model import Fault
from nightkiln.testing.market import Ending, Night, Stretch, shipped_market
from nightkiln.testing.market.params import JobTroubles, Offline

HOUR_S = 3600.0
ORDINARY = shipped_market("ordinary")
NIGHT = Night(ORDINARY, seed=0, horizon_s=HOUR_S)
STRETCH = NIGHT.stretches[0]


def test_a_job_takes_what_its_machine_takes_give_or_take() -> None:
    truths = [NIGHT.attempt(STRETCH, f"job-{n}") for n in range(4000)]

    assert mean(one.seconds for one in truths) == pytest.approx(STRETCH.s_per_job, rel=0.01)
    assert mean(one.fails for one in truths) == pytest.approx(0.003, abs=0.002)
    assert NIGHT.attempt(STRETCH, "job-1") == truths[1]
    assert NIGHT.attempt(STRETCH, "job-1", 1).seconds != truths[1].seconds


def test_a_lump_takes_the_time_of_its_jobs_and_their_retries() -> None:
    truths = [NIGHT.attempt(STRETCH, f"lump-{n}", lump=25) for n in range(2000)]

    alone_s = STRETCH.s_per_job * (1 + 0.003 + 5 * 0.0003)
    assert mean(one.seconds for one in truths) == pytest.approx(25 * alone_s, rel=0.005)
    assert not any(one.fails or one.hangs for one in truths)


def test_a_poisonous_job_fails_everywhere_and_nobody_can_tell_why() -> None:
    troubles = JobTroubles(poison_share=0.2)
    night = Night(replace(ORDINARY, jobs=troubles), seed=1, horizon_s=HOUR_S)
    places: list[Stretch | str] = [*night.stretches[:5], "container-0"]

    poisonous = {
        f"job-{n}"
        for n in range(200)
        if all(night.attempt(place, f"job-{n}").fails for place in places)
    }

    assert len(poisonous) == pytest.approx(40, abs=20)
    assert night.attempt(places[0], min(poisonous), 7).fault is Fault.UNKNOWN
    assert night.attempt(places[0], min(poisonous), lump=20).fails


def test_a_hungry_job_wants_a_larger_card() -> None:
    troubles = JobTroubles(hungry_share=1.0, hungry_needs_gb=20.0)
    night = Night(replace(ORDINARY, jobs=troubles), seed=1, horizon_s=HOUR_S)
    small = next(one for one in night.stretches if one.gpu == "RTX 4080")
    large = next(one for one in night.stretches if one.gpu == "RTX 4090")

    refused = night.attempt(small, "job")

    assert (refused.kind, refused.fault) == ("oom", Fault.MACHINE)
    assert not night.attempt(large, "job").fails
    assert not night.attempt("container-0", "job").fails


def test_some_images_come_back_damaged_and_some_attempts_never_end() -> None:
    market = replace(ORDINARY, jobs=JobTroubles(corrupt_share=0.1))
    market = replace(market, batch=replace(market.batch, hang_share=0.1))
    night = Night(market, seed=1, horizon_s=HOUR_S)

    endings = [night.attempt("container-0", f"job-{n}").ending for n in range(1000)]

    assert endings.count(Ending.DAMAGED) == pytest.approx(90, abs=40)
    assert endings.count(Ending.HANG) == pytest.approx(100, abs=40)


def test_containers_differ_little() -> None:
    paces = [NIGHT.container_s_per_job(f"container-{n}") for n in range(200)]

    assert mean(paces) == pytest.approx(4.8, rel=0.02)
    assert max(paces) / min(paces) < 1.3


def test_a_machine_may_be_out_of_reach_and_come_back() -> None:
    night = Night(
        replace(ORDINARY, offline=Offline(per_h=1.0, mean_s=60.0)), seed=1, horizon_s=HOUR_S
    )
    windows = [night.offline(stretch, 1000.0) for stretch in night.stretches]

    assert all(one is not None and 1000 < one.from_s < one.to_s for one in windows)
    assert NIGHT.offline(STRETCH, 0.0) is None
