"""An export is stopped before every durable step; the same call ends as if nothing had been."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from nightkiln.core.errors import NightkilnError, StoreUnusable
from nightkiln.disk import Disk
from nightkiln.export.exporting import export
from nightkiln.export.request import Format, Request
from nightkiln.store.store import Store
from nightkiln.testing.disk import NoFsyncDisk, SteppedDisk, VolatileDisk
from nightkiln.testing.mutants import SYNCS
from tests.adapters.export_world import a_store, broken_sums, on_disk, quick, tree

STEPS_MAX = 200
STEPS_LEAST = 30  # of an export of two parts
SAMPLE_EVERY = 17  # steps between two stops, where time is short
MUTANT_EVERY = 5
KILLS = 4


class Stopped(OSError):
    """Every effect fails from here on: nobody is left to make one."""


def cut(
    store: Store, request: Request, step: int, make_disk: Callable[[VolatileDisk], Disk]
) -> bool:
    """Export until the power goes before ``step``, or after the end; False when that came first."""
    volatile = VolatileDisk(quick())

    def before(number: int, _name: str) -> None:
        if number >= step:
            raise Stopped

    try:
        export(on_disk(store, SteppedDisk(make_disk(volatile), before)), request)
    except StoreUnusable:
        return True
    else:
        return False
    finally:
        volatile.lose_power()


def broken_by(
    store: Store, request: Request, whole: Mapping[str, bytes], *, has_ended: bool
) -> str | None:
    """What is not as it was promised, now and after the next call."""
    if gone := broken_sums(request.folder):
        return f"there is a manifest, and these are not what it says: {gone}"
    if has_ended and tree(request.folder) != whole:
        return "it said that it was whole"
    try:
        export(store, request)
    except (NightkilnError, ValueError) as error:
        return f"the next call cannot go on: {error}"
    return None if tree(request.folder) == whole else "the next call made something else"


def sweep(
    folder: Path,
    form: Format,
    *,
    first: int = 1,
    every: int = 1,
    make_disk: Callable[[VolatileDisk], Disk] = lambda disk: disk,
) -> dict[int, str]:
    """What was broken, by the step before which the power went."""
    store = a_store(folder / "store")
    request = Request(folder / "whole", form, shard_rows=2)
    export(store, request)
    whole = tree(request.folder)
    broken: dict[int, str] = {}
    for step in range(first, STEPS_MAX, every):
        request = replace(request, folder=folder / str(step))
        has_ended = not cut(store, request, step, make_disk)
        if found := broken_by(store, request, whole, has_ended=has_ended):
            broken[step] = found
        if has_ended:
            assert step > STEPS_LEAST
            return broken
    raise AssertionError("the export never came to its end")


@pytest.mark.nights
@pytest.mark.parametrize("form", [Format.WEBDATASET, Format.FILES])
def test_a_stopped_export_ends_with_the_same_bytes(tmp_path: Path, form: Format) -> None:
    first = 2 + 3 * list(Format).index(form)  # each form is stopped at steps of its own

    assert sweep(tmp_path, form, first=first, every=SAMPLE_EVERY) == {}


@pytest.mark.long
@pytest.mark.parametrize("form", Format)
def test_so_it_does_wherever_it_is_stopped(tmp_path: Path, form: Format) -> None:
    assert sweep(tmp_path, form) == {}


@pytest.mark.parametrize(
    "skipped",
    [
        pytest.param(each, marks=pytest.mark.nights if each == "sync" else pytest.mark.long)
        for each in SYNCS
    ],
)
def test_a_disk_that_leaves_out_one_kind_of_sync_is_found_out(tmp_path: Path, skipped: str) -> None:
    def lazy(disk: VolatileDisk) -> Disk:
        return NoFsyncDisk(disk, (skipped,))

    assert sweep(tmp_path, Format.PARQUET, every=MUTANT_EVERY, make_disk=lazy) != {}


@pytest.mark.nights
@pytest.mark.parametrize(
    "form",
    [
        Format.PARQUET,
        *(pytest.param(form, marks=pytest.mark.long) for form in Format if form != Format.PARQUET),
    ],
)
def test_a_killed_process_is_continued_by_the_same_command(tmp_path: Path, form: Format) -> None:
    store = a_store(tmp_path / "store")
    export(store, Request(tmp_path / "whole", form, shard_rows=2))

    steps = random.Random(form).sample(range(2, STEPS_LEAST), KILLS)  # noqa: S311 - by its name
    ends = [command(tmp_path, form, f"kill={step}") for step in steps]
    last = command(tmp_path, form, "")

    assert ends[0] == -signal.SIGKILL
    assert {*ends, last} <= {-signal.SIGKILL, 0}, "a later one may have less left to do"
    assert last == 0
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def command(folder: Path, form: Format, disk: str) -> int:
    """The real command in a process of its own, with a disk as ``disk_from_spec`` reads it."""
    arguments = ["--format", form, "--to", str(folder / "out"), "--shard-rows", "2"]
    environment = {name: value for name, value in os.environ.items() if "NIGHTKILN" not in name}
    ended = subprocess.run(
        [sys.executable, "-m", "nightkiln", "export", "--store", str(folder / "store"), *arguments],
        env={**environment, "NIGHTKILN_DISK": disk},
        cwd=folder,
        check=False,
        capture_output=True,
    )
    return ended.returncode
