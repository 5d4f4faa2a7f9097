"""What a quote or a rehearsal is based on, in words: measured seconds, or a market file's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from nightkiln.rehearse.measured import ClassMeasured
from nightkiln.rehearse.script import Script

CLASSES_TOLD_MAX = 3


def basis_lines(script: Script) -> Iterator[str]:
    """Where seconds per job come from; nothing to say where that is the market file alone."""
    measured = script.measured
    if measured is None:
        return
    told = measured.classes[:CLASSES_TOLD_MAX]
    more = len(measured.classes) - len(told)
    others = f", and on {more} more" if more else ""
    yield f"measured: {'; '.join(map(measured_words, told))}{others}"
    if not measured.is_used:
        yield (
            "that is not for rent in this market, and no table compares it with what is: seconds "
            "per job are the market file's"
        )
        return
    ranked = sorted((each, name) for name, each in measured.expected.items())
    expected = ", ".join(f"{each:.2f} on {name.replace('_', ' ')}" for each, name in ranked)
    yield f"expected from that, seconds a job: {expected}"
    if not any(one.is_for_rent for one in measured.classes):
        yield "none of it is for rent in this market: a table of GPUs says how they compare"
    doubts = sorted(measured.doubt.values())
    yield f"give or take {doubts[0]:.0%} to {doubts[-1]:.0%}, drawn anew for every night"


def measured_words(one: ClassMeasured) -> str:
    """What one class of GPUs took, and from what that is known."""
    when = datetime.fromtimestamp(one.seen_s, UTC)
    machines = f" on {one.machines} machines" if one.machines > 1 else ""
    jobs = f"{one.jobs:,} job{'s' if one.jobs != 1 else ''}{machines}"
    return f"{one.seconds_per_job:.2f} s a job on {one.gpu} ({jobs}, {when:%Y-%m-%d})"
