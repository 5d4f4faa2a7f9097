"""How busy workers are kept, and whether the controller stays answerable meanwhile."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from statistics import quantiles

from tests.benchmarks.child import in_child
from tests.benchmarks.figure import Figure, at_least, at_most
from tests.benchmarks.fleet import fleet
from tests.benchmarks.images import SIZE_MB

RENDER_S = 0.4
BUSY_MIN = 97.0  # %
LAG_MS_MAX = 50.0


def figures(*, is_quick: bool) -> Iterator[Figure]:
    """The same for the bare loop and for nightkiln."""
    jobs = 40 if is_quick else 200
    for name in ("bare", "kiln"):
        with (
            tempfile.TemporaryDirectory() as folder,
            fleet(render_s=RENDER_S, size_mb=SIZE_MB) as there,
        ):
            module = f"tests.benchmarks.{name}"
            cost = in_child(module, "render", urls=there.urls, jobs=jobs, folder=folder)
        busy = 100 * there.busy_fraction()
        if name == "bare":
            yield Figure("busy_bare", busy, "%")
            continue
        yield at_least("busy_kiln", busy, "%", BUSY_MIN)
        lag_ms = 1000 * quantiles(cost["lag_s"], n=100)[98]
        yield at_most("busy_kiln_loop_lag_p99", lag_ms, "ms", LAG_MS_MAX)
