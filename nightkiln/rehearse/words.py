"""A rehearsal in words and rows, for a terminal as for a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nightkiln.observers.sentences import duration
from nightkiln.rehearse.asking import Jobs
from nightkiln.rehearse.basis import basis_lines
from nightkiln.rehearse.summary import WASTE, Spread, Summary


def head(summary: Summary, jobs: Jobs) -> Iterator[str]:
    """What was played, and what came of it, in a few lines."""
    script = summary.script
    most = "" if jobs.is_exact else "at most "
    lumps = f", {script.lump} played as one" if script.lump > 1 else ""
    deadline = duration(script.deadline_s)
    yield (
        f"{most}{jobs.count:,} jobs within {deadline} for {script.budget} USD, on "
        f"{len(summary.nights)} nights of market {script.market.name} ({script.market.digest})"
        f"{lumps}"
    )
    yield (
        f"deadline met on {summary.deadline_met_fraction:.1%} of them, "
        f"{summary.usd_per_1000:.3f} USD per 1,000 jobs, "
        f"{summary.waste_fraction:.1%} of the money bought no result"
    )
    reasons = sorted({night.stop_reason for night in summary.nights if night.stop_reason})
    if reasons:
        yield f"stopped early, such as: {reasons[0]}"
    yield from basis_lines(script)


def rows(summary: Summary) -> Iterator[tuple[str, str, str, str]]:
    """What is told of every night: its name, p10, p50 and p90."""
    for name, spread, form in _spreads(summary):
        yield name, form(spread.p10), form(spread.p50), form(spread.p90)


def waste(summary: Summary) -> str:
    """Where money went that bought no result."""
    parts = summary.parts
    told = ", ".join(f"{name.replace('_', ' ')} {parts[name]:.3f}" for name in WASTE)
    return f"of the mean {parts.usd:.3f} USD no result came of: {told}"


def _spreads(summary: Summary) -> Iterator[tuple[str, Spread, Callable[[float], str]]]:
    yield "cost, USD", summary.spread(lambda night: night.usd), "{:.2f}".format
    yield "finish", summary.spread(lambda night: night.finish_s), duration
    yield "machines ever rented", summary.spread(lambda night: night.leases), "{:.0f}".format
    yield "... at once", summary.spread(lambda night: night.leases_most), "{:.0f}".format
    yield "... taken away", summary.spread(lambda night: night.leases_lost), "{:.0f}".format
    yield "... never came up", summary.spread(lambda night: night.starts_failed), "{:.0f}".format
    yield "jobs failed", summary.spread(lambda night: night.jobs_failed), "{:.0f}".format
    yield "jobs left", summary.spread(lambda night: night.jobs_left), "{:.0f}".format
    yield "waste, USD", summary.spread(lambda night: night.parts.waste_usd), "{:.3f}".format
