"""A night that several controllers work on, on Prefect workers of which one dies half-way."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from subprocess import Popen

import duckdb
import pytest

from nightkiln.store.claims import newest_claim
from nightkiln.store.shares import report_of, split_into, tickets
from nightkiln.store.store import Store, is_store
from nightkiln.testing.comfyui.process import ServerProcess, stand_in_process
from nightkiln.testing.samples import write_catalog
from nightkiln.testing.waiting import until
from tests.asking import ask
from tests.room.postgres import postgres
from tests.room.room import Room

# In CI tests/e2e/test_shared_night.py shares nights out, without Prefect.
pytestmark = [pytest.mark.prefect, pytest.mark.long]

NIGHT = "sample-2026-11-21"
ONCE = "select count(*), count(distinct job_id) from jobs where status = 'done'"
CONTROLLERS = 2
# Of the controller that is killed: what its stand-in was handed, and what came back and was not
# proven yet.
IN_FLIGHT = 3 + 3
NIGHT_S_MAX, LONG_S_MAX = 400.0, 1800.0  # with a computer that is busy with other tests


class Halves:
    """Two Prefect workers: room for the night and one controller on the first, one on the other."""

    def __init__(self, room: Room, store: Path) -> None:
        self.room, self.root = room, str(store)
        self.second: Popen[bytes] | None = None

    def done(self, jobs_min: int) -> bool:
        """Whether each controller has said that it has done so many jobs."""
        if not is_store(self.root) or not (Path(self.root) / "shares").is_dir():
            return False
        blobs = Store.open(self.root).blobs
        split = split_into(blobs, NIGHT, wanted=CONTROLLERS)
        told = [report_of(blobs, mine[-1]) for mine in tickets(blobs, NIGHT, 1, split) if mine]
        return len(told) == CONTROLLERS and all(
            one is not None and one.done >= jobs_min for one in told
        )

    def is_half_way(self, jobs: int) -> bool:
        assert self.second is not None
        return self.done(jobs // (2 * CONTROLLERS)) and bool(self.room.flows_of(self.second))


def said(room: Room) -> str:
    """The end of what the Prefect workers and their flows have printed."""
    return "\n".join(path.read_text()[-4000:] for path in room.folder.glob("worker-*.log"))


@pytest.fixture
def own_workers(room: Room) -> Iterator[Room]:
    """The room without its own Prefect worker, whose place the test's take."""
    room.kill_worker()
    yield room
    room.kill_more_workers()


def servers(stack: ExitStack, count: int, *, render_s: float) -> list[ServerProcess]:
    """Stand-ins that are processes of their own."""
    option = ("--render-s", str(render_s))
    return [stack.enter_context(stand_in_process(*option)) for _ in range(count)]


async def night_with_a_death(
    room: Room, folder: Path, *, jobs: int, workers: Sequence[ServerProcess], within_s: float
) -> Halves:
    """Run a night with two controllers; half-way one Prefect worker dies with its controller."""
    catalog, halves = write_catalog(folder / "sample", jobs), Halves(room, folder / "store")
    await room.more_worker(limit=2)
    params = {
        "catalog": str(catalog),
        "store": halves.root,
        "name": NIGHT,
        "controllers": CONTROLLERS,
        "options": {"kind": "local", "worker_urls": [one.url for one in workers]},
    }
    run = await room.run("nightly", params)
    await until(partial(room.is_in, run, "RUNNING"), within_s=within_s)
    halves.second = await room.more_worker(limit=1)  # so it gets a controller, and not the night
    try:
        await until(lambda: halves.is_half_way(jobs), within_s=within_s)
    except TimeoutError as error:
        raise AssertionError(f"{await room.state(run)}\n{said(room)}") from error
    assert halves.second is not None
    room.kill_with_flows(halves.second)
    state = await room.ended(run, within_s=within_s)

    assert state["type"] == "COMPLETED", (state, said(room))
    assert f"{jobs} of {jobs} jobs done" in state["message"]
    return halves


def see_next_to_nothing_repeated(workers: Sequence[ServerProcess], jobs: int) -> None:
    """Every job was rendered, and again only what the killed controller had not proven."""
    executed = [one.executed() for one in workers]
    assert 0 <= sum(executed) - jobs <= IN_FLIGHT, executed


def see_every_job_once(store: Store, jobs: int) -> None:
    """One result per job, in two shares, of which one was taken over."""
    assert ask(store, ONCE) == [(jobs, jobs)]
    assert ask(store, "select count(distinct batch) from jobs") == [(CONTROLLERS,)]
    rows = f"select count(*), count(distinct job_id) from read_parquet({store.glob('results')})"  # noqa: S608 - ours
    assert duckdb.execute(rows).fetchall() == [(jobs, jobs)]
    batches = [f"{NIGHT}-{number}of{CONTROLLERS}" for number in range(1, CONTROLLERS + 1)]
    claims = [newest_claim(store.blobs, batch) for batch in batches]
    assert sorted(claim.epoch for claim in claims if claim is not None) == [1, 2]


@pytest.mark.nights
@pytest.mark.timeout_s(NIGHT_S_MAX)
async def test_when_a_prefect_worker_dies_its_share_is_finished_elsewhere_and_nothing_is_repeated(
    own_workers: Room, tmp_path: Path
) -> None:
    jobs = 300
    with ExitStack() as stack:
        workers = servers(stack, CONTROLLERS, render_s=0.2)
        halves = await night_with_a_death(
            own_workers, tmp_path, jobs=jobs, workers=workers, within_s=200.0
        )
        see_every_job_once(Store.open(halves.root), jobs)
        see_next_to_nothing_repeated(workers, jobs)


@pytest.mark.long
@pytest.mark.timeout_s(LONG_S_MAX)
async def test_twenty_thousand_jobs_on_postgres_with_a_prefect_worker_killed_half_way(
    tmp_path: Path,
) -> None:
    jobs, began_s = 20_000, time.monotonic()
    with ExitStack() as stack:
        database = stack.enter_context(postgres())
        room = Room(
            tmp_path / "room",
            PREFECT_API_DATABASE_CONNECTION_URL=database,
            NIGHTKILN_SHARD_ROWS="256",
        )
        stack.callback(room.close)
        await room.open()
        room.kill_worker()
        stack.callback(room.kill_more_workers)
        workers = servers(stack, CONTROLLERS, render_s=0.0)
        opened_s = time.monotonic()
        halves = await night_with_a_death(
            room, tmp_path, jobs=jobs, workers=workers, within_s=LONG_S_MAX
        )
        see_every_job_once(Store.open(halves.root), jobs)
        see_next_to_nothing_repeated(workers, jobs)
    took = f"opened in {opened_s - began_s:.0f} s, the night in {time.monotonic() - opened_s:.0f} s"
    print(f"{jobs:,} jobs, {CONTROLLERS} controllers, one killed: {took}")
