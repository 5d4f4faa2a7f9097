"""What nights learn outlives them: read back as it was, merged, bounded, and never trusted."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nightkiln.blobs import LocalBlobs
from nightkiln.core.events import Blame
from nightkiln.core.learning import Knowledge, Pace, Scores
from nightkiln.core.model import BatchId, Kind, Offer
from nightkiln.core.outbid import PARTS, DayRates, Rate
from nightkiln.core.priors import Priors
from nightkiln.core.terms import Load
from nightkiln.ports.blobs import Blobs
from nightkiln.remembering import Memory, luck_of
from nightkiln.store.scores import (
    BLOCKED_S_MAX,
    EXPOSURE_MAX,
    MARKET,
    RUNS_READ_MAX,
    STARTUPS_MAX,
    Blocked,
    MachineLuck,
    market_json,
    read_scores,
    scores_keys,
    workflow_json,
)
from nightkiln.store.store import Store
from nightkiln.testing.settled import BATCH
from tests.nested import nested

NOW_S, DAY_S = 1.8e9, 86400.0
M1, M2, MINE = ("cloud", "m-1"), ("cloud", "m-2"), ("local", "http://mine")
FAST = Offer("cloud", "o-1", "RTX 4090", kind=Kind.ON_DEMAND, machine="m-1")
PRIORS = Priors({"RTX 4090": 4.0})


class Clock:
    """Shows what it is set to."""

    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path)


def memory(blobs: Blobs, clock: Clock, batch: BatchId = BATCH) -> Memory:
    return Memory(blobs, batch, bills={"cloud"}, clock=clock)


async def test_tonight_starts_from_last_night(blobs: LocalBlobs) -> None:
    clock = Clock()
    last = memory(blobs, clock)
    await last.recall()
    knowledge = Knowledge(PRIORS, Load(), last.scores)
    for _ in range(30):
        knowledge.rendered(FAST, 2.0)
        knowledge.rendered(replace(FAST, ref="o-2", machine="m-2"), 3.0)
    knowledge.started(FAST, 300.0)
    knowledge.held(replace(FAST, kind=Kind.INTERRUPTIBLE), 2.0, was_lost=True)
    knowledge.held(FAST, 5.0, was_lost=True)
    await last.blame(Blame("cloud", "m-9", "startup", DAY_S))
    assert await last.keep(knowledge) is None

    clock.now_s += 3600
    tonight = memory(blobs, clock, replace(BATCH, epoch=2))
    await tonight.recall()

    assert tonight.scores.workflow_jobs == 60
    assert tonight.scores.machines == last.scores.machines
    assert (tonight.scores.startup, tonight.scores.lost) == (last.scores.startup, Rate(1, 5.0))
    assert 0 < tonight.scores.outbid["RTX 4090"].events < 1  # an hour old
    assert tonight.scores.luck[M1] == pytest.approx(luck_of(knowledge, M1, "RTX 4090"))
    assert tonight.scores.luck[M1] < 0 < tonight.scores.luck[M2]
    assert tonight.blocked(clock_s=50.0) == {("cloud", "m-9"): 50.0 + DAY_S - 3600}
    pace = Knowledge(PRIORS, Load(), tonight.scores).pace(FAST)[0]
    assert pace == pytest.approx(knowledge.pace(FAST)[0], rel=0.02)


async def test_another_workflow_knows_the_machines_luck_and_nothing_of_their_pace(
    blobs: LocalBlobs,
) -> None:
    clock = Clock()
    last = memory(blobs, clock)
    knowledge = Knowledge(PRIORS, Load(), last.scores)
    for _ in range(30):
        knowledge.rendered(FAST, 2.0)
        knowledge.rendered(replace(FAST, ref="o-2", machine="m-2"), 3.0)
    await last.keep(knowledge)

    other = memory(blobs, clock, replace(BATCH, workflow_digest="f" * 64))
    await other.recall()

    assert (other.scores.workflow_jobs, other.scores.machines) == (0, {})
    paces = Knowledge(PRIORS, Load(), other.scores)
    assert paces.pace(FAST)[0] < 4.0 < paces.pace(replace(FAST, machine="m-2"))[0]


async def test_a_machine_of_ones_own_is_never_on_the_blocklist(blobs: LocalBlobs) -> None:
    clock = Clock()
    mine = memory(blobs, clock)
    await mine.blame(Blame(*MINE, "bad", DAY_S))
    blobs.put(
        f"{MARKET}20270101T000000-x-000001.json",
        market_json(Scores(), [], [Blocked(*MINE, "bad", NOW_S, NOW_S + DAY_S)], now_s=NOW_S),
    )

    await mine.recall()

    assert mine.blocked(clock_s=0.0) == {}


async def test_two_runs_at_once_take_nothing_from_each_other(blobs: LocalBlobs) -> None:
    clock = Clock()
    one, two = memory(blobs, clock), memory(blobs, clock, replace(BATCH, batch="other"))
    for run, machine in ((one, "m-1"), (two, "m-2")):
        await run.recall()
        knowledge = Knowledge(PRIORS, Load(), run.scores)
        for _ in range(9):
            knowledge.rendered(replace(FAST, machine=machine), 2.0)
        await run.blame(Blame("cloud", machine, "lost", DAY_S))
        await run.keep(knowledge)

    found = read_scores(blobs, BATCH.workflow_digest, now_s=NOW_S)

    assert set(found.scores.machines) == set(found.blocked) == {M1, M2}


async def test_the_later_word_about_a_machine_wins_whoever_began_first(blobs: LocalBlobs) -> None:
    first_began, second_began = (
        scores_keys(replace(BATCH, epoch=epoch), started_s=NOW_S + epoch)[0] for epoch in (1, 2)
    )
    late, early = Scores(9, {M1: Pace("X", 9, 0.5)}), Scores(4, {M1: Pace("X", 4, 0.1)})
    blobs.put(first_began, workflow_json(late, {M1: NOW_S + 90}, now_s=NOW_S + 90))
    blobs.put(second_began, workflow_json(early, {M1: NOW_S + 10}, now_s=NOW_S + 99))

    found = read_scores(blobs, BATCH.workflow_digest, now_s=NOW_S + 100).scores

    assert (found.machines, found.workflow_jobs) == ({M1: Pace("X", 9, 0.5)}, 9)


def test_many_nights_weigh_no_more_than_can_be_unlearned(blobs: LocalBlobs) -> None:
    scores = Scores(lost=Rate(400.0, 4000.0), startup=Pace("", 900.0, 0.3))
    blobs.put(f"{MARKET}x.json", market_json(scores, [], [], now_s=NOW_S))

    found = read_scores(blobs, "w", now_s=NOW_S).scores

    assert (found.lost, found.startup.jobs) == (Rate(20.0, EXPOSURE_MAX), STARTUPS_MAX)


async def test_the_time_of_day_at_which_bids_are_lost_is_remembered_for_weeks(
    blobs: LocalBlobs,
) -> None:
    clock, risky = Clock(), replace(FAST, kind=Kind.INTERRUPTIBLE)
    last = memory(blobs, clock)
    await last.recall()
    knowledge = Knowledge(PRIORS, Load(), last.scores, midnight_s=0.0)
    for _ in range(20):
        knowledge.held(risky, 1.0, was_lost=True, until_s=2 * 3600.0)
        knowledge.held(risky, 1.0, was_lost=False, until_s=14 * 3600.0)
    await last.keep(knowledge)

    clock.now_s += 7 * DAY_S
    tonight = memory(blobs, clock, replace(BATCH, epoch=2))
    await tonight.recall()

    assert 0 < tonight.scores.outbid["RTX 4090"].events < 1  # how often, of another week
    assert tonight.scores.outbid_by_day["RTX 4090"].events[0] > 10
    knows = Knowledge(PRIORS, Load(), tonight.scores, midnight_s=0.0)
    knows.look_again(0.0, 3 * 3600.0)
    early = knows.lost_per_h(risky)
    knows.look_again(12 * 3600.0, 3 * 3600.0)
    assert early > 1.5 * knows.lost_per_h(risky)


def test_what_an_older_version_learned_is_read_all_the_same(blobs: LocalBlobs) -> None:
    scores = Scores(outbid={"RTX 4090": Rate(3.0, 6.0)})
    older = json.loads(market_json(scores, [], [], now_s=NOW_S))
    del older["outbid_by_day"]
    blobs.put(f"{MARKET}x.json", json.dumps(older).encode())

    found = read_scores(blobs, "w", now_s=NOW_S)

    assert found.left_out == []
    assert (found.scores.outbid, found.scores.outbid_by_day) == (scores.outbid, {})


def test_times_of_day_weigh_no_more_than_can_be_unlearned(blobs: LocalBlobs) -> None:
    lived = DayRates((100.0,) * PARTS, (4000.0,) * PARTS)
    nonsense = DayRates((float("nan"),) * PARTS, (1.0,) * PARTS)
    scores = Scores(outbid_by_day={"RTX 4090": lived, "H100": nonsense})
    blobs.put(f"{MARKET}x.json", market_json(scores, [], [], now_s=NOW_S))

    found = read_scores(blobs, "w", now_s=NOW_S).scores

    share = EXPOSURE_MAX / 4000
    assert found.outbid_by_day == {"RTX 4090": lived.scaled(share)}


def test_only_the_newest_runs_are_read(blobs: LocalBlobs) -> None:
    for number in range(RUNS_READ_MAX + 5):
        luck = [MachineLuck("cloud", f"m-{number}", 0.1, NOW_S)]
        blobs.put(f"{MARKET}{number:03d}.json", market_json(Scores(), luck, [], now_s=NOW_S))

    found = read_scores(blobs, "w", now_s=NOW_S)

    assert len(found.scores.luck) == RUNS_READ_MAX
    assert ("cloud", "m-0") not in found.scores.luck


def test_no_block_outlasts_the_longest_there_is(blobs: LocalBlobs) -> None:
    blocks = [
        Blocked("cloud", "m-1", "bad", NOW_S, NOW_S + 1e9),
        Blocked("cloud", "m-2", "bad", NOW_S - DAY_S, NOW_S + 1.0),
    ]
    blobs.put(f"{MARKET}x.json", market_json(Scores(), [], blocks, now_s=NOW_S))

    found = read_scores(blobs, "w", now_s=NOW_S + 2.0).blocked

    assert {host: block.until_s for host, block in found.items()} == {
        M1: NOW_S + 2.0 + BLOCKED_S_MAX
    }


NONSENSE = nested(
    st.none() | st.floats() | st.integers() | st.text(max_size=5),
    keys=st.text(max_size=5),
)
KEYS = (
    "version", "written_s", "startup", "boots", "lost", "outbid", "outbid_by_day", "luck", "blocked"
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(KEYS), NONSENSE)
def test_what_somebody_changed_is_left_out_or_cannot_do_harm(
    blobs: LocalBlobs, name: str, value: Any
) -> None:
    good = json.loads(market_json(Scores(), [], [], now_s=NOW_S))
    blobs.put(f"{MARKET}x.json", json.dumps({**good, name: value}).encode())

    scores = read_scores(blobs, "w", now_s=NOW_S).scores

    knowledge = Knowledge(PRIORS, Load(), scores)
    outlook = knowledge.outlook(FAST)
    assert outlook.seconds_per_job == pytest.approx(4.0)
    assert 0 < outlook.startup_s < 1e7
    assert 0 <= outlook.boot_fails <= 0.9


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b"[" * 10_000, b"x" * 9_000_000])
def test_a_damaged_object_costs_a_little_knowledge(blobs: LocalBlobs, content: bytes) -> None:
    blobs.put(f"{MARKET}damaged.json", content)
    luck = [MachineLuck("cloud", "m-1", 0.1, NOW_S)]
    blobs.put(f"{MARKET}good.json", market_json(Scores(), luck, [], now_s=NOW_S))

    found = read_scores(blobs, "w", now_s=NOW_S)

    assert found.left_out == [f"{MARKET}damaged.json"]
    assert found.scores.luck == {M1: 0.1}


async def test_what_is_known_of_machines_can_be_asked_in_sql(tmp_path: Path) -> None:
    store, clock = Store.open(str(tmp_path / "store"), create=True), Clock()
    clock.now_s = time.time()
    run = memory(store.blobs, clock)
    await run.recall()
    knowledge = Knowledge(PRIORS, Load(), run.scores)
    for _ in range(9):
        knowledge.rendered(FAST, 2.0)
    await run.blame(Blame(*M2, "lost", DAY_S))
    await run.keep(knowledge)
    store.blobs.put(f"{MARKET}damaged.json", b"{")

    with store.connect() as con:
        machines = con.execute("select provider, machine, seconds_vs_class from scorecard")
        assert machines.fetchall() == [(*M1, pytest.approx(1.0, abs=0.5))]
        blocked = con.execute("select provider, machine, cause, until - since from blocklist")
        assert blocked.fetchall() == [(*M2, "lost", timedelta(days=1))]


async def test_a_store_that_takes_no_scores_ends_no_run(tmp_path: Path) -> None:
    (tmp_path / "scores").write_text("a file, where a folder should be")
    run = memory(LocalBlobs(tmp_path), Clock())

    trouble = await run.keep(Knowledge(PRIORS, Load(), run.scores))

    assert trouble is not None
    assert "scores" in trouble
