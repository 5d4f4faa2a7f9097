"""The rows about a run: it is there before anything else of it, and the last thing to be closed."""

from __future__ import annotations

from nightkiln import __version__
from nightkiln.core.errors import NightkilnError
from nightkiln.core.model import BatchId
from nightkiln.outcome import Outcome
from nightkiln.planner import Again, Plan
from nightkiln.store.processes import this_process
from nightkiln.store.records import BatchEnd, BatchStart, write_batch_end, write_batch_start
from nightkiln.store.store import Store


def run_start(batch: BatchId, plan: Plan, catalog_digest: str, started_s: float) -> BatchStart:
    """A run that begins now."""
    return BatchStart(
        batch=batch,
        catalog_digest=catalog_digest,
        process=this_process(),
        started_s=started_s,
        jobs_total=plan.total,
        version=__version__,
        columns=plan.other_columns(),
        params=plan.params(),
        forced=plan.again.forced if isinstance(plan.again, Again) else None,
    )


def open_run(store: Store, start: BatchStart) -> None:
    """Write down that it has begun. Blocking."""
    store.make_durable(start.batch.date)
    write_batch_start(store.blobs, start)
    store.refresh_views()


def close_run(
    store: Store, start: BatchStart, outcome: Outcome, ended_s: float, *, is_whole: bool
) -> None:
    """Write down how it ended. Blocking.

    Raises:
        NightkilnError: it cannot be written, and nothing else has gone wrong before.
    """
    counts = (outcome.done, outcome.reused, outcome.failed)
    try:
        write_batch_end(store.blobs, start, BatchEnd(ended_s, *counts, outcome.exit_code))
    except NightkilnError:
        if is_whole:
            raise  # else what has ended the run is already on its way up
