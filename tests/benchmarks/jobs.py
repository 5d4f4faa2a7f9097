"""Jobs per second and CPU per job where rendering takes no time: what a controller costs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from tests.benchmarks.child import in_child
from tests.benchmarks.figure import Figure, at_least
from tests.benchmarks.fleet import fleet

BARE_SHARE = 0.5  # of the bare loop's speed, wanted with verify, journal and store
PREFECT_FACTOR = 20.0  # times a task run per prompt


@dataclass(frozen=True, slots=True)
class Round:
    """One contestant, once."""

    jobs: int
    wall_s: float
    cpu_s: float

    @property
    def per_s(self) -> float:
        return self.jobs / self.wall_s

    @property
    def cpu_ms(self) -> float:
        return 1000 * self.cpu_s / self.jobs


def rendered(contestant: str, jobs: int, *, size_mb: float = 0.0, **more: Any) -> Any:
    """What a contestant says after ``jobs`` jobs on a fresh fleet and an empty folder."""
    module = f"tests.benchmarks.{contestant}"
    with tempfile.TemporaryDirectory() as folder, fleet(size_mb=size_mb) as there:
        return in_child(module, "render", urls=there.urls, jobs=jobs, folder=folder, **more)


def rounds(contestants: tuple[str, ...], jobs: int, count: int) -> dict[str, list[Round]]:
    """Let contestants take turns, so that a noisy minute hits all of them."""
    results: dict[str, list[Round]] = {name: [] for name in contestants}
    for _ in range(count):
        for name in contestants:
            cost = rendered(name, jobs)
            results[name].append(Round(jobs, cost["wall_s"], cost["cpu_s"]))
    return results


def figures(*, is_quick: bool) -> Iterator[Figure]:
    """Bare loop, nightkiln, Prefect task run per prompt: figures as they are known."""
    found = rounds(("bare", "kiln"), 1000 if is_quick else 3000, 1 if is_quick else 3)
    for name, runs in found.items():
        yield Figure(f"jobs_{name}", median(run.per_s for run in runs), "jobs/s")
        yield Figure(f"jobs_{name}_cpu", median(run.cpu_ms for run in runs), "ms/job")
    pairs = zip(found["kiln"], found["bare"], strict=True)
    share = median(kiln.per_s / bare.per_s for kiln, bare in pairs)
    yield at_least("jobs_kiln_over_bare", share, "x", BARE_SHARE)
    for kind in ("async", "sync"):
        yield from _prefect(kind, is_quick=is_quick)


def _prefect(kind: str, *, is_quick: bool) -> Iterator[Figure]:
    """Up to the last result and, ``recorded``, until Prefect's database shows all task runs.

    nightkiln runs before and after, so that the load of the moment is about the same for both.
    """
    jobs, jobs_ours = (60, 500) if is_quick else (1000, 2000)
    before = rounds(("kiln",), jobs_ours, 1)["kiln"]
    cost = rendered("prefect_map", jobs, kind=kind)
    kiln = before + rounds(("kiln",), jobs_ours, 1)["kiln"]
    run = Round(jobs, cost["wall_s"], cost["cpu_s"])
    recorded = cost["recorded"] / cost["recorded_s"]
    server_cpu_ms = 1000 * cost["server_cpu_s"] / jobs
    ours, ours_cpu_ms = median(one.per_s for one in kiln), median(one.cpu_ms for one in kiln)
    name, over = f"jobs_prefect_{kind}", f"jobs_kiln_over_prefect_{kind}"
    yield Figure(name, run.per_s, "jobs/s")
    yield Figure(f"{name}_cpu", run.cpu_ms, "ms/job")
    yield Figure(f"{name}_server_cpu", server_cpu_ms, "ms/job")
    yield Figure(f"{name}_recorded", recorded, "jobs/s")
    yield at_least(over, ours / run.per_s, "x", PREFECT_FACTOR)
    yield at_least(f"{over}_recorded", ours / recorded, "x", PREFECT_FACTOR)
    factor = (run.cpu_ms + server_cpu_ms) / ours_cpu_ms
    yield at_least(f"{over}_cpu", factor, "x", PREFECT_FACTOR)
