"""Controllers killed in the middle of a night of rented machines: nothing is lost, or left."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from nightkiln.core.reaping import ReapRules
from nightkiln.lease_book import LeaseBook
from nightkiln.night import ALL_DONE, STOPPED_EARLY
from nightkiln.reap import reap
from nightkiln.testing.disk import place_of
from nightkiln.testing.kills import KILLED, effects_in, ended
from nightkiln.testing.vast_market.scene import VastScene
from nightkiln.testing.waiting import until

JOBS = 12
VAST = "vast"
DEADMAN_S = 10.0
DICE = 20261121
NIGHT_S = 14.0  # about what an undisturbed controller takes
UNSEEN = "unlink:.tmp"
# Effects around a create: the intent is there, the answer is not on record.
SHOWS = frozenset(
    {"link", "replace", "unlink", "sync_log"}
)  # what gives or takes a name, or a line
INTENDED, RENTED = "replace:leases:1", "replace:leases:2"


def scene_in(folder: Path) -> VastScene:
    return VastScene(folder, jobs=JOBS, leases_max=2, deadman_s=DEADMAN_S)


def short_scene_in(folder: Path) -> VastScene:
    return VastScene(folder, jobs=4, leases_max=1, deadman_s=DEADMAN_S)


async def next_run(scene: VastScene) -> None:
    """The same command again: what is left behind is used or given back, and all is done."""
    assert await scene.run_apart() == ALL_DONE, scene.told()
    assert await scene.broken() == []


async def sweep(scene: VastScene) -> None:
    """The reaper, once the run has been silent for longer than its machines put up with."""
    await asyncio.sleep(DEADMAN_S / 2)
    rules = ReapRules(fleet="main", silence_s=DEADMAN_S / 2)
    book = LeaseBook(scene.folder / "state")
    deadline_s = time.monotonic() + 2 * DEADMAN_S
    async with scene.controller.provider() as provider:
        # A listing that lacks what the book believes alive is not believed, until that is too old.
        while not (swept := await reap({VAST: provider}, book, rules, clock=time.time)).is_clean:
            assert time.monotonic() < deadline_s, swept
            await asyncio.sleep(1.0)
    assert scene.billed() == []
    await next_run(scene)


async def nobody(scene: VastScene) -> None:
    """Nobody comes: the machines end themselves."""
    await until(lambda: not scene.billed(), within_s=3 * DEADMAN_S)
    await next_run(scene)


@pytest.mark.nights
@pytest.mark.parametrize("step", [INTENDED, RENTED])
async def test_a_run_killed_around_a_create_leaves_no_machine(step: str, tmp_path: Path) -> None:
    async with scene_in(tmp_path) as scene:
        assert await scene.run_apart(f"kill={step}") == KILLED, scene.told()

        await next_run(scene)


@pytest.mark.nights
async def test_the_next_run_goes_on_with_the_machines_of_a_killed_one(tmp_path: Path) -> None:
    async with scene_in(tmp_path) as scene:
        process = replace(scene.controller, leases_max=1).start()
        await until(lambda: any(tmp_path.glob("store/images/*/*/*")), within_s=60)
        process.send_signal(signal.SIGKILL)
        assert (await ended(process))[0] == KILLED

        await next_run(scene)

        assert len(scene.market.ledger()) == 1, "the warm machine was given away"


async def effects_of_a_night(folder: Path) -> list[str]:
    """All durable effects of one small undisturbed night, in order."""
    counted = folder / "effects"
    async with short_scene_in(folder / "counted") as scene:
        assert await scene.run_apart(f"count={counted}") == ALL_DONE, scene.told()
    return effects_in(counted)


def steps_that_show(effects: Sequence[str]) -> list[str]:
    """Each effect that others can see, as ``kill=`` takes it: what lies between them is alike."""
    seen, steps = Counter[str](), list[str]()
    for effect in effects:
        place = place_of(effect)
        seen[place] += 1
        if place.partition(":")[0] in SHOWS and place != UNSEEN:
            steps.append(f"{place}:{seen[place]}")
    return steps


async def killed_before(folder: Path, step: str) -> str:
    """Kill one small night just before ``step``, and let the next run go on."""
    async with short_scene_in(folder) as scene:
        status = await scene.run_apart(f"kill={step}")
        assert status in {KILLED, ALL_DONE}, scene.told()  # timers: no two nights are quite alike
        billed = len(scene.billed())
        await next_run(scene)
    return f"{'killed' if status == KILLED else 'not hit'}, {billed} machines billed, before {step}"


@pytest.mark.long
@pytest.mark.timeout_s(3000)
async def test_a_run_killed_between_any_two_effects_costs_nothing_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = steps_that_show(await effects_of_a_night(tmp_path))

    told = [
        await killed_before(tmp_path / step.replace(":", "-").replace("/", "-"), step)
        for step in steps
    ]

    assert len([line for line in told if line.startswith("killed")]) > len(steps) * 0.9, told
    with capsys.disabled():
        print(f"\nkilled before each of {len(steps)} effects:", *told, sep="\n")


@pytest.mark.nights
@pytest.mark.parametrize("after", [sweep, nobody])
async def test_without_another_run_nothing_is_billed_for_long(
    after: Callable[[VastScene], Awaitable[None]], tmp_path: Path
) -> None:
    async with scene_in(tmp_path) as scene:
        process = scene.controller.start()
        await until(scene.billed, within_s=60)
        process.send_signal(signal.SIGKILL)
        assert (await ended(process))[0] == KILLED

        await after(scene)


@pytest.mark.nights
@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        *(pytest.param(each, marks=pytest.mark.long) for each in (signal.SIGINT, signal.SIGHUP)),
    ],
)
async def test_a_signal_gives_everything_back(number: signal.Signals, tmp_path: Path) -> None:
    async with scene_in(tmp_path) as scene:
        process = replace(scene.controller, leases_max=1).start()
        await until(scene.billed, within_s=60)
        process.send_signal(number)

        status, said = await ended(process)

        assert status == STOPPED_EARLY, said
        assert scene.billed() == []


@pytest.mark.long
@pytest.mark.timeout_s(3000)
async def test_a_run_killed_at_any_moment_costs_nothing_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dice, hits = Random(DICE), Counter[str]()  # noqa: S311 - a game, not a secret
    for number in range(25):
        after = dice.choice([next_run, next_run, sweep, nobody])
        async with scene_in(tmp_path / str(number)) as scene:
            process = scene.controller.start()
            await asyncio.sleep(dice.uniform(2.0, NIGHT_S))
            process.send_signal(signal.SIGKILL)
            status, said = await ended(process)
            assert status in {KILLED, ALL_DONE}, said
            hits[f"{after.__name__}, {len(scene.billed())} machines billed"] += 1
            await after(scene)
    with capsys.disabled():
        print("\n" + "\n".join(f"{count:4d}  {what}" for what, count in sorted(hits.items())))
