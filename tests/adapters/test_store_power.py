"""The power goes before every single step of a run's writes; the next run puts it right."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightkiln.core.errors import StoreUnusable
from nightkiln.core.model import Settled
from nightkiln.disk import Disk, OsDisk
from nightkiln.store.adopt import AdoptionReport, adoptable
from nightkiln.store.commit import Committer
from nightkiln.store.store import Store
from nightkiln.testing.disk import NoFsyncDisk, SteppedDisk, VolatileDisk
from nightkiln.testing.settled import BATCH, done, picture
from nightkiln.testing.short_run import PICTURES, mine, short_run

STEPS_MAX = 80
SAMPLE_EVERY = 11  # steps between two real processes that are killed, where time is short


class PowerCut(OSError):
    """Every effect fails from here on: nobody is left to make one."""


def cut_here(
    folder: Path, step: int, make_disk: Callable[[VolatileDisk], Disk]
) -> list[str] | None:
    """Run in this process until the power goes before ``step``; what was said until then.

    None when the run came to its end first.
    """
    # The machine itself stays on, so the disk beneath need not really sync.
    volatile = VolatileDisk(NoFsyncDisk(OsDisk()))

    def before(number: int, _name: str) -> None:
        if number >= step:
            raise PowerCut

    said: list[str] = []
    try:
        store = Store.open(str(folder), disk=SteppedDisk(make_disk(volatile), before))
        asyncio.run(short_run(store, said.append))
    except StoreUnusable:
        volatile.lose_power()
        return said
    return None


def cut_process(folder: Path, step: int) -> list[str] | None:
    """The same by SIGKILL in a process of its own."""
    writer = subprocess.run(
        [sys.executable, "-m", "nightkiln.testing.short_run", f"cut={step}", str(folder)],
        check=False,
        capture_output=True,
        text=True,
    )
    if writer.returncode == 0:
        return None
    assert writer.returncode == -signal.SIGKILL, writer.stderr
    return writer.stdout.splitlines()


def broken_promises(folder: Path, said: list[str]) -> list[str]:
    """What was said and is not so, now and after the next run."""
    store = Store.open(str(folder))
    try:
        committed = committed_jobs(store)
        kept = committed | {settled.job.id for settled in proven(store, committed)}
        asyncio.run(next_run(store))
        rows = rows_of(store)
    except (duckdb.Error, pa.ArrowException, StoreUnusable) as error:
        return [f"the store cannot be read: {error}"]
    found = [
        f"picture {number} was proven and is lost"
        for number in PICTURES
        if f"proven {number}" in said and done(number).job.id not in kept
    ]
    if "committed" in said and len(committed) != len(PICTURES):
        found.append("a commit was taken back")
    if len(rows) != len(PICTURES):
        found.append(f"{len(rows)} rows for {len(PICTURES)} jobs")
    return found + [
        f"{uri} is not what its row says"
        for uri, sha256 in rows.values()
        if hashlib.sha256(store.blobs.get(uri)).hexdigest() != sha256
    ]


def committed_jobs(store: Store) -> set[str]:
    """Jobs in any shard."""
    shards = [store.root / key for key in store.blobs.list("results/")]
    return {
        str(job_id) for shard in shards for job_id in pq.read_table(shard, columns=["job_id"])[0]
    }


def rows_of(store: Store) -> dict[str, tuple[str, str]]:
    """File and sha256 by job; a job that is shown twice counts as an error."""
    with store.connect("jobs") as con:
        rows = con.execute("select job_id, uri, sha256 from jobs").fetchall()
    assert len({job_id for job_id, *_ in rows}) == len(rows)
    return {job_id: (uri, sha256) for job_id, uri, sha256 in rows}


def proven(store: Store, committed: set[str]) -> list[Settled]:
    """What the dead run's journal is good for."""
    report = AdoptionReport()
    return list(adoptable(store, BATCH.batch, before_epoch=2, committed=committed, report=report))


async def next_run(store: Store) -> None:
    """Adopt what is proven, make the rest anew."""
    settled_before = committed_jobs(store)
    async with Committer(store.blobs, replace(BATCH, epoch=2), still_mine=mine) as commits:
        adopted = proven(store, settled_before)
        for settled in adopted:
            await commits.add(settled)
        made = settled_before | {settled.job.id for settled in adopted}
        for number in PICTURES:
            if done(number).job.id not in made:
                store.blobs.put(done(number).outputs[0].uri, picture(number))
                await commits.add(done(number))


def sweep(
    folder: Path, cut: Callable[[Path, int], list[str] | None], *, every: int = 1
) -> dict[int, list[str]]:
    """Broken promises by step, over the whole run."""
    broken: dict[int, list[str]] = {}
    Store.open(str(folder / "fresh"), create=True)
    for step in range(1, STEPS_MAX, every):
        store = folder / str(step)
        shutil.copytree(folder / "fresh", store)
        said = cut(store, step)
        if said is None:
            assert step > 20, "fewer steps than two pictures, two lines and a commit need"
            return broken
        if found := broken_promises(store, said):
            broken[step] = found
    raise AssertionError("the run never came to its end")


@pytest.mark.parametrize(
    "every",
    [pytest.param(3, marks=pytest.mark.nights), pytest.param(1, marks=pytest.mark.long)],
)
def test_a_power_cut_before_any_step_loses_nothing_that_was_said(
    every: int, tmp_path: Path
) -> None:
    def cut(store: Path, step: int) -> list[str] | None:
        return cut_here(store, step, lambda disk: disk)

    assert sweep(tmp_path, cut, every=every) == {}


@pytest.mark.long
def test_a_disk_that_does_not_sync_is_found_out(tmp_path: Path) -> None:
    broken = sweep(tmp_path, lambda store, step: cut_here(store, step, NoFsyncDisk))

    assert any("proven" in one for found in broken.values() for one in found)
    assert any("commit" in one for found in broken.values() for one in found)


@pytest.mark.nights
def test_a_real_process_that_loses_power_loses_nothing_that_it_said(tmp_path: Path) -> None:
    assert sweep(tmp_path, cut_process, every=SAMPLE_EVERY) == {}


@pytest.mark.long
def test_nor_at_any_step(tmp_path: Path) -> None:
    assert sweep(tmp_path, cut_process) == {}
