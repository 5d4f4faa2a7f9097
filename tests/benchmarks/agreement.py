"""Whether a quote, which plays many jobs as one, says what playing each by itself says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nightkiln.rehearse import Script, Stage, lump_for, summary_of
from nightkiln.rehearse.quoting import LUMPS, LUMPS_PER_MACHINE
from nightkiln.testing.market import shipped_market
from tests.benchmarks.figure import Figure

HOURS = (8, 2, 1)
NIGHTS, NIGHTS_QUICK = 16, 2
OFF_MAX = 0.05  # of cost and finish, either way


def figures(*, is_quick: bool) -> Iterator[Figure]:
    """Quoted over exact, 10,000 jobs in the ordinary market: cost and finish."""
    hours, nights = (HOURS[-1:], NIGHTS_QUICK) if is_quick else (HOURS, NIGHTS)
    with Stage() as stage:
        for each in hours:
            yield from agreement(stage, each, range(nights))


def agreement(stage: Stage, hours: int, seeds: Sequence[int]) -> Iterator[Figure]:
    """For one deadline."""
    market, deadline_s = shipped_market(), hours * 3600.0
    lump = lump_for(market, deadline_s, lumps=LUMPS, per_machine=LUMPS_PER_MACHINE)
    quoted, exact = (
        summary_of(script, list(stage.rehearsed(script, seeds, compares=False)))
        for script in (Script(market, deadline_s, lump=lump), Script(market, deadline_s))
    )
    usd = [one.spread(lambda night: night.usd) for one in (quoted, exact)]
    finish = [one.spread(lambda night: night.finish_s) for one in (quoted, exact)]
    for name, (mine, true) in (("usd", usd), ("finish", finish)):
        for share in ("p50", "p90"):
            ratio = getattr(mine, share) / getattr(true, share)
            wanted = f"{1 - OFF_MAX:g} to {1 + OFF_MAX:g}"
            yield Figure(
                f"quote_over_exact_{hours}h_{name}_{share}",
                ratio,
                f"x ({market.digest})",
                wanted,
                abs(ratio - 1) <= OFF_MAX,
            )
