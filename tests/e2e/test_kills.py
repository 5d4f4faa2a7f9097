"""Real controllers killed in the middle: the promise that nothing made is lost or made twice."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections import Counter
from functools import partial
from pathlib import Path
from random import Random

import pytest

from nightkiln.testing.kills import (
    KILLED,
    Scene,
    durable_effects,
    effects_in,
    ended,
    histogram,
    one_of_each,
    phase_of,
)
from nightkiln.testing.waiting import until

JOBS = 12
AT_ONCE = 2  # scenes side by side: as many as a small machine has cores
DICE = 20261121
RANDOM_KILLS = 5  # a sample; killed_anywhere plays 25 in make test-long
START_S = 1.5  # about what a controller takes to its first effect
NOTHING_YET = "nothing yet"
# What makes results, money and whose work it is exist for others; make test-long cuts everywhere.
NAMING = frozenset(
    {"link:batches", "link:claims", "link:leases", "link:results", "replace:images"}
    | {"sync_log:journal"}
)


async def cut_and_finish(folder: Path, step: str, way: str) -> str:
    """Crash one night just before a step, let the next run finish it, name what was hit."""
    record = folder / "hit"
    async with Scene(folder, JOBS) as scene:
        await scene.crash(f"{way}={step},record={record}")
        await scene.finish()
    if not record.exists():
        return "none: the night was shorter"
    return record.read_text().strip().split(" ", 2)[2]


async def each(folder: Path, steps: list[str], way: str) -> list[str]:
    """Every step of ``steps``, a few at a time."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(step: str) -> str:
        async with turns:
            place = folder / f"{way}-{step.replace(':', '-')}"
            place.mkdir()
            return await cut_and_finish(place, step, way)

    return list(await asyncio.gather(*(one(step) for step in steps)))


@pytest.mark.nights
@pytest.mark.timeout_s(300)  # a dozen controllers, one after the other
async def test_a_power_cut_before_each_kind_of_name_is_given_loses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    effects = await durable_effects(tmp_path / "counted", JOBS)

    naming = [step for step in one_of_each(effects) if step.rpartition(":")[0] in NAMING]
    assert len(naming) == len(NAMING)
    hits = await each(tmp_path, naming, "cut")

    with capsys.disabled():
        print(f"\npower cuts at {len(hits)} of {len(effects)} steps:\n{histogram(hits)}")


@pytest.mark.long
@pytest.mark.timeout_s(3600)
@pytest.mark.parametrize("way", ["cut", "kill"])
async def test_a_crash_at_every_single_step_loses_nothing(
    way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    effects = await durable_effects(tmp_path / "counted", JOBS)

    hits = await each(tmp_path, [str(n) for n in range(1, len(effects) + 1)], way)

    with capsys.disabled():
        print(f"\n{way} at each of {len(effects)} steps:\n{histogram(hits)}")


def has_come(scene: Scene, process: subprocess.Popen[str], renders: int) -> bool:
    """Whether the moment is there, or will never be."""
    return scene.renders >= renders or process.poll() is not None


async def random_kills(folder: Path, kills: int, seed: int) -> list[str]:
    """``kill -9`` the same night at random moments, then let it finish."""
    dice, hits = Random(seed), list[str]()  # noqa: S311 - a game, not a secret
    jobs = 10 * kills
    async with Scene(folder, jobs, shard_rows=16, render_s=0.02) as scene:
        for number in range(kills):
            effects = folder / f"effects-{number}"
            process = scene.start(f"count={effects}")
            begun = scene.renders
            # Some die while they start, most at work, wherever that is.
            await until(partial(has_come, scene, process, begun + dice.randrange(12)))
            await asyncio.sleep(dice.random() * 0.3)
            if process.poll() is None:
                process.kill()
            status, _ = await ended(process)
            scene.crashes += status == KILLED
            hits.append([NOTHING_YET, *effects_in(effects)][-1])
        await scene.finish()
    return hits


@pytest.mark.nights
async def test_random_kills_lose_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hits = await random_kills(tmp_path, RANDOM_KILLS, DICE)

    with capsys.disabled():
        print(f"\n{RANDOM_KILLS} random kill -9, last effect before each:\n{histogram(hits)}")


async def killed_anywhere(folder: Path, effects: int, dice: Random) -> list[str]:
    """``kill -9`` a night somewhere, let the next run finish it; all effects before the kill."""
    counted, step = folder / "effects", dice.randrange(-effects // 6, effects)
    async with Scene(folder, JOBS) as scene:
        process = scene.start(f"count={counted}")
        if step < 0:  # while it starts, which it does without any effect
            await asyncio.sleep(dice.random() * START_S)
        await until(lambda: len(effects_in(counted)) > step or process.poll() is not None)
        process.kill()
        scene.crashes += (await ended(process))[0] == KILLED
        before = effects_in(counted)
        await scene.finish()
        await scene.again()
    return before


@pytest.mark.long
@pytest.mark.timeout_s(1800)
async def test_25_kills_anywhere_in_a_night_lose_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    effects = await durable_effects(tmp_path / "counted", JOBS)
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> list[str]:
        async with turns:
            dice = Random(DICE + number)  # noqa: S311 - a game, not a secret
            return await killed_anywhere(tmp_path / f"night-{number}", len(effects), dice)

    nights = await asyncio.gather(*(one(number) for number in range(25)))

    phases = Counter(phase_of(before) for before in nights)
    hits = [[NOTHING_YET, *before][-1] for before in nights]
    with capsys.disabled():
        print(f"\n25 kill -9 anywhere: {dict(phases)}; last effect before:\n{histogram(hits)}")


@pytest.mark.long
async def test_the_next_run_on_the_same_machine_takes_over_at_once(tmp_path: Path) -> None:
    async with Scene(tmp_path, 30, render_s=0.05) as scene:
        process = scene.start()
        await until(lambda: scene.renders >= 3)
        process.kill()
        await ended(process)
        scene.crashes += 1

        await scene.finish()


@pytest.mark.long
async def test_a_second_controller_is_told_who_has_the_batch(tmp_path: Path) -> None:
    async with Scene(tmp_path, 12, render_s=1.5) as scene:
        first = scene.start()
        await until(lambda: scene.renders >= 1)
        status, said = await ended(scene.start())

        assert status == 2
        assert f"process {first.pid}" in said
        assert "nightkiln stop night" in said
        assert (await ended(first))[0] == 0
        scene.check()


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.nights),
        pytest.param(signal.SIGHUP, marks=pytest.mark.long),
    ],
)
async def test_a_signal_ends_a_run_in_order(number: signal.Signals, tmp_path: Path) -> None:
    async with Scene(tmp_path, 40, render_s=0.05) as scene:
        process = scene.start()
        await until(lambda: scene.renders >= 3)
        process.send_signal(number)
        status, said = await ended(process)

        assert status == 3, said
        assert f"stopped by {number.name}; what is being rendered is finished first" in said
        await scene.finish()
        assert scene.renders == 40


@pytest.mark.nights
async def test_a_second_signal_hands_running_jobs_back(tmp_path: Path) -> None:
    async with Scene(tmp_path, 6, render_s=30.0) as scene:
        process = scene.start()
        await until(lambda: any(server.submitted for server in scene.servers))
        process.send_signal(signal.SIGINT)
        await asyncio.to_thread(read_until, process, '"stopping"')
        process.send_signal(signal.SIGINT)
        status, said = await ended(process)

        assert status == 3, said
        for server in scene.servers:
            await server.idle()
        endings = [render.ending for server in scene.servers for render in server.renders]
        assert set(endings) == {"execution_interrupted"}  # the workers were told, and are free


def read_until(process: subprocess.Popen[str], word: str) -> None:
    """Read what a controller prints up to the line with ``word``."""
    assert process.stdout is not None
    for line in process.stdout:
        if word in line:
            return
    raise AssertionError(f"it never said {word}")
