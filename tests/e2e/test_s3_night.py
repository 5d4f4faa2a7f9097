"""Whole runs into a bucket: controllers that are killed, that race, that find the store failing."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from nightkiln.night import ALL_DONE, BAD_INPUT, STOPPED_EARLY
from nightkiln.testing.kills import KILLED, Scene, ended
from nightkiln.testing.s3_proxy import Asked, S3Proxy, Way, s3_proxy
from nightkiln.testing.s3_server import BUCKET, S3Server
from nightkiln.testing.samples import write_catalog
from nightkiln.testing.waiting import until

pytestmark = pytest.mark.s3

JOBS = 12
WRITES = frozenset({"PUT", "POST", "DELETE"})
ROUGH, DICE = 0.15, 20261121  # how many requests go wrong, and which

# One of each kind of object that a run makes, in about this order.
STEPS = [
    "claims/night/000001.json",
    "-start.parquet",
    "images/",
    "results/dt=2",
    "leases/",
    "scores/",
    "stories/",
    "views.sql",
    "-end.parquet",
    "000001.ended.json",
]
BEFORE, AFTER = False, True
SAMPLED = [
    ("images/", AFTER),  # before it, they wait in the spool: that has a test of its own
    ("results/dt=2", BEFORE),
    ("results/dt=2", AFTER),
    ("000001.ended.json", BEFORE),
    ("000001.ended.json", AFTER),
]
OTHERS = [(step, when) for step in STEPS for when in (BEFORE, AFTER) if (step, when) not in SAMPLED]


def told(sample: object) -> str:
    return {BEFORE: "before", AFTER: "after"}[sample] if isinstance(sample, bool) else str(sample)


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[S3Proxy]:
    with s3_proxy(s3) as running:
        yield running


def scene_at(folder: Path, proxy: S3Proxy, place: str = "", **more: object) -> Scene:
    """A scene whose controllers reach the store through the proxy; who looks at it does not."""
    return Scene(
        folder,
        JOBS,
        place=place or f"s3://{BUCKET}/nights/{uuid.uuid4().hex}",
        access=proxy.server.access,
        environment={**proxy.server.environment, "AWS_ENDPOINT_URL": proxy.url},
        **more,  # type: ignore[arg-type]
    )


class Axe:
    """Kills a controller at its first write of one kind, before or after it is carried out."""

    def __init__(self, scene: Scene, step: str, *, is_after: bool) -> None:
        self.process = scene.start()
        self.has_fallen = False
        self._step, self._is_after = step, is_after

    def before(self, asked: Asked) -> Way | None:
        """What the proxy asks before it carries a request out."""
        is_it = not self.has_fallen and asked.method in WRITES and self._step in asked.path
        if not is_it or self._is_after:
            return None
        self._fall()
        return Way.DROPPED

    def after(self, asked: Asked) -> None:
        """What the proxy tells after it has carried a request out."""
        is_it = self._is_after and asked.method in WRITES and self._step in asked.path
        if is_it and not self.has_fallen:
            self._fall()

    def _fall(self) -> None:
        self.has_fallen = True
        self.process.kill()


async def cut_and_finish(folder: Path, proxy: S3Proxy, step: str, *, is_after: bool) -> None:
    """Kill a controller at a step, let the next one finish, look at everything."""
    async with scene_at(folder, proxy) as scene:
        axe = Axe(scene, step, is_after=is_after)
        proxy.before, proxy.after = axe.before, axe.after
        status, said = await ended(axe.process)
        assert (axe.has_fallen, status) == (True, KILLED), said
        scene.crashes += 1
        await scene.finish()


async def test_a_night_lands_in_a_bucket_and_is_left_alone_by_the_next_run(
    proxy: S3Proxy, tmp_path: Path
) -> None:
    async with scene_at(tmp_path, proxy) as scene:
        await scene.finish()
        await scene.again()


@pytest.mark.parametrize(("step", "is_after"), SAMPLED, ids=told)
async def test_a_controller_that_is_killed_at_a_write_loses_nothing(
    *, step: str, is_after: bool, proxy: S3Proxy, tmp_path: Path
) -> None:
    await cut_and_finish(tmp_path, proxy, step, is_after=is_after)


@pytest.mark.long
@pytest.mark.parametrize(("step", "is_after"), OTHERS, ids=told)
async def test_nor_at_any_other(
    *, step: str, is_after: bool, proxy: S3Proxy, tmp_path: Path
) -> None:
    await cut_and_finish(tmp_path, proxy, step, is_after=is_after)


@pytest.mark.timeout_s(300)
async def test_a_night_on_a_store_that_keeps_failing_is_whole(
    proxy: S3Proxy, tmp_path: Path
) -> None:
    dice = Random(DICE)  # noqa: S311
    ways = [Way.REFUSED, Way.BUSY, Way.DROPPED, Way.LOST, Way.SHORT]
    rough = 0

    def before(_: Asked) -> Way | None:
        nonlocal rough
        if dice.random() >= ROUGH:
            return None
        rough += 1
        return dice.choice(ways)

    proxy.before = before

    async with scene_at(tmp_path, proxy) as scene:
        await scene.finish()

    assert rough > JOBS, "it was rough"


async def test_of_two_controllers_that_want_one_batch_one_gets_it(
    proxy: S3Proxy, tmp_path: Path
) -> None:
    async with scene_at(tmp_path, proxy, render_s=0.2) as scene:
        both = await asyncio.gather(ended(scene.start()), ended(scene.start()))

        assert sorted(status for status, _ in both) == [ALL_DONE, BAD_INPUT]
        assert any("is being worked on by" in said for _, said in both)
        scene.check()


async def test_two_controllers_work_on_two_batches_of_one_store_at_once(
    proxy: S3Proxy, tmp_path: Path
) -> None:
    place = f"s3://{BUCKET}/nights/{uuid.uuid4().hex}"
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    one, other = (scene_at(folder, proxy, place, batch=folder.name) for folder in folders)
    async with one, other:
        for folder in folders:  # else the slower one might find everything made
            write_catalog(folder / "catalog", JOBS, reuse="never")
        both = await asyncio.gather(ended(one.start()), ended(other.start()))

        assert [status for status, _ in both] == [ALL_DONE, ALL_DONE], both
        with one.opened().connect() as con:
            asked = "select batch, count(*), count(distinct job_id) from jobs group by 1 order by 1"
            assert con.execute(asked).fetchall() == [("one", JOBS, JOBS), ("other", JOBS, JOBS)]
        one.check()
        other.check()


async def test_what_waits_when_a_controller_is_killed_is_adopted_and_not_rendered_again(
    proxy: S3Proxy, tmp_path: Path
) -> None:
    async with scene_at(tmp_path, proxy) as scene:
        proxy.before = lambda asked: Way.BUSY if "images/" in asked.path else None
        first = scene.start()
        await until(lambda: _kept(scene) == JOBS, within_s=60)
        first.kill()
        await ended(first)
        proxy.before = lambda _: None

        await scene.finish()

        assert scene.renders == JOBS


async def test_a_spool_that_finds_no_room_ends_the_run_and_the_next_one_goes_on(
    proxy: S3Proxy, tmp_path: Path
) -> None:
    async with scene_at(tmp_path, proxy) as scene:
        status, said = await ended(scene.start("full=replace:stores:5"))

        assert status == STOPPED_EARLY
        assert "No space left on device" in said
        assert "free some space in" in said
        scene.crashes += 1  # what it had not kept yet may be rendered again
        await scene.finish()


def _kept(scene: Scene) -> int:
    """Results that the first run's journal vouches for, though the store takes none."""
    found = (scene.folder / "state").glob("stores/*/journal/night/000001.jsonl")
    return sum(path.read_text().count('"kind":"rendered"') for path in found)
