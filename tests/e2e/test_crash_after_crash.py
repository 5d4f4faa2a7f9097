"""Nights that crash more than once, and in the night after: what is adopted is not lost either."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from nightkiln.night import ALL_DONE, BAD_INPUT
from nightkiln.store.store import Store
from nightkiln.testing.disk import place_of
from nightkiln.testing.kills import NotWhole, Scene, durable_effects, ended, histogram

JOBS = 12
ONE_SHARD = 100  # nothing is committed before the end: all that is made waits to be adopted
AT_ONCE = 2
# Nothing is left to do, so almost every image has its name; the first such link is the schema's.
BEFORE_ANY_COMMIT = "link:leases:2"
WASTED = "renders where 18 would do"  # nothing was adopted


async def crashed_twice(folder: Path, second: str) -> str:
    """Power cuts in a night and in the night after, then a third one; what the second hit."""
    record = folder / "hit"
    async with Scene(folder, JOBS, ONE_SHARD) as scene:
        await scene.crash(f"cut={BEFORE_ANY_COMMIT}")
        await scene.crash(f"cut={second},record={record}")
        await scene.finish()
        await scene.again()
    return record.read_text().split(" ", 2)[2].strip() if record.exists() else "none too-late"


async def effects_of_the_night_after(folder: Path) -> list[str]:
    counted = folder / "effects"
    async with Scene(folder, JOBS, ONE_SHARD) as scene:
        await scene.crash(f"cut={BEFORE_ANY_COMMIT}")
        assert await scene.run(f"count={counted}") == ALL_DONE
        scene.check()
    return [line.partition(" ")[2] for line in counted.read_text().splitlines()]


@pytest.mark.long
async def test_a_power_cut_while_results_are_adopted_loses_nothing(tmp_path: Path) -> None:
    hit = await crashed_twice(tmp_path, "link:results:1")

    assert place_of(hit) == "link:results"


@pytest.mark.long
@pytest.mark.timeout_s(1800)
async def test_a_power_cut_at_every_step_of_the_night_after_loses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    after = await effects_of_the_night_after(tmp_path / "after")

    turns = asyncio.Semaphore(AT_ONCE)

    async def one(step: int) -> str:
        async with turns:
            return await crashed_twice(tmp_path / f"second-{step}", str(step))

    hits = await asyncio.gather(*(one(step) for step in range(1, len(after) + 1)))

    with capsys.disabled():
        print(f"\ncut at each of {len(after)} steps of the night after:\n{histogram(hits)}")


@pytest.mark.nights
@pytest.mark.parametrize(
    ("mutant", "found"),
    [
        ("no-journal", WASTED),
        pytest.param("no-fsync", WASTED, marks=pytest.mark.long),
        pytest.param("no-fsync=sync", "the next run ended with 3", marks=pytest.mark.long),
        pytest.param("no-fsync=sync_folder", WASTED, marks=pytest.mark.long),
        pytest.param("no-fsync=sync_log", WASTED, marks=pytest.mark.long),
    ],
)
async def test_a_mutant_without_fsync_or_without_journal_is_caught(
    mutant: str, found: str, tmp_path: Path
) -> None:
    """The same power cut as above, where a sound disk loses nothing."""
    async with Scene(tmp_path / "mutant", JOBS, ONE_SHARD) as scene:
        await scene.crash(f"cut={BEFORE_ANY_COMMIT},{mutant}")
        with pytest.raises(NotWhole, match=found):
            await scene.finish()


@pytest.mark.long
async def test_a_shard_whose_name_a_killed_run_did_not_sync_is_synced_by_the_next(
    tmp_path: Path,
) -> None:
    """``kill -9`` and a power cut soon after: the journal must not go before the shard stays."""
    effects = await durable_effects(tmp_path / "counted", JOBS, shard_rows=ONE_SHARD)
    places = [place_of(effect) for effect in effects]
    named = max(n for n, place in enumerate(places) if place == "link:results")
    synced = places[: named + 1].count("sync_folder:results") + 1

    async with Scene(tmp_path, JOBS, ONE_SHARD) as scene:
        await scene.crash(f"kill=sync_folder:results:{synced}")
        [shard] = scene.store.glob("results/dt=2*/*")
        assert await scene.run(f"count={tmp_path / 'effects'}") == ALL_DONE
        scene.check()

    assert f"sync_folder {shard.parent}" in (tmp_path / "effects").read_text()


@pytest.mark.nights
async def test_a_batch_keeps_its_date_though_its_first_run_died_before_rendering(
    tmp_path: Path,
) -> None:
    async with Scene(tmp_path, JOBS) as monday:
        await monday.finish()

    async with Scene(tmp_path, JOBS, batch="next") as scene:
        await scene.crash("cut=link:batches:1")
        await ended(scene.start(timezone="Etc/GMT+12"))
        await ended(scene.start(timezone="Pacific/Kiritimati"))

        with Store.open(str(scene.store)).connect() as con:
            rows = con.execute("select count(*) from _results where batch = 'next'").fetchall()
    assert rows == [(JOBS,)]


@pytest.mark.nights
async def test_of_two_controllers_at_once_one_works_and_the_other_is_told(tmp_path: Path) -> None:
    async with Scene(tmp_path, JOBS, render_s=0.5) as scene:
        first, second = scene.start(), scene.start()
        ends = await asyncio.gather(ended(first), ended(second))

        (status, _), (refused, said) = sorted(ends)
        loser, winner = (first, second) if first.returncode == BAD_INPUT else (second, first)
        assert (status, refused) == (ALL_DONE, BAD_INPUT), ends
        assert f"(process {winner.pid}) since" in said
        assert loser.pid != winner.pid
        scene.check()
