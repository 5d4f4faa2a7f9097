"""The fleet as a table: every lease of the run, what it does, and what it has come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from nightkiln.markdown import table
from nightkiln.observers.sentences import amount
from nightkiln.ports.observer import Progress, WorkerProgress

ROWS_MAX = 200  # of an artifact that is written every few seconds; the store has all
HEADER = ("lease", "GPU", "state", "jobs", "failed tries", "s/job", "USD")
_OVER = frozenset({"released", "lost"})  # costs nothing any more
_STATES = ("ready", "starting", "draining", "not released", "lost", "released")


def fleet_page(progress: Progress, names: Mapping[str, str]) -> str:
    """What the run rents, as Markdown. ``names``: of leases, by id, as the timeline has them."""
    workers = sorted(progress.workers, key=lambda one: one.state in _OVER)
    shown = workers[:ROWS_MAX]
    rows = [_row(one, names.get(one.lease_id, one.lease_id)) for one in shown]
    hidden = len(workers) - len(shown)
    parts = [fleet_line(progress), table(HEADER, rows) if rows else ""]
    if hidden:
        parts.append(f"and {hidden} more, in the view `leases` of the store")
    return "\n\n".join(part for part in parts if part) + "\n"


def fleet_line(progress: Progress) -> str:
    """The fleet in one line: how many are in which state, and what all came to."""
    if not progress.workers:
        return "nothing is rented yet"
    states = Counter(one.state for one in progress.workers)
    known = [f"{states.pop(state)} {state}" for state in _STATES if state in states]
    told = ", ".join([*known, *(f"{count} {state}" for state, count in sorted(states.items()))])
    usd = sum(one.usd for one in progress.workers)
    return f"{told}; {amount(usd)} USD so far, by our own count" if usd else told


def _row(one: WorkerProgress, name: str) -> tuple[object, ...]:
    state = f"{one.state}: {one.doing}" if one.doing else one.state
    per_job = f"{one.busy_s / one.done:.1f}" if one.done and one.busy_s else ""
    return (name, one.gpu, state, one.done, one.failed, per_job, amount(one.usd))
