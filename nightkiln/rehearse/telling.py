"""A quote in words: in short, what would fit instead, and why a run must not begin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import ROUND_UP, Decimal

from nightkiln.core.errors import Problem
from nightkiln.observers.sentences import amount, duration
from nightkiln.rehearse.quoting import SURE, Quote

ROOM = Decimal("1.05")  # what a budget that is named as fitting has above the p90
CENT = Decimal("0.01")


def in_short(quote: Quote, *, has_deadline: bool) -> Iterator[str]:
    """What somebody who is to pay for it has to know, in three lines at most."""
    summary, usd, finish_s = quote.summary, quote.usd, quote.finish_s
    script = summary.script
    within = f" within {duration(script.deadline_s)}" if has_deadline else ""
    machines = summary.spread(lambda night: night.leases_most)
    yield (
        f"quote: {script.market.batch.jobs:,} jobs{within} for {quote.budget} USD: "
        f"cost p50 {amount(usd.p50)}, p90 {amount(usd.p90)} USD; "
        f"finish p50 {duration(finish_s.p50)}, p90 {duration(finish_s.p90)}"
    )
    seconds = ", seconds a job as measured" if script.basis == "measured" else ""
    yield (
        f"  on {len(summary.nights)} simulated nights of market file {script.market.name} "
        f"({script.market.digest}){seconds}, not on today's offers; "
        f"machines at once p50 {machines.p50:.0f}, p90 {machines.p90:.0f}"
    )
    if has_deadline and summary.deadline_met_fraction < SURE:
        yield (
            f"  the deadline was met on {summary.deadline_met_fraction:.0%} of them only; "
            f"{_fitting(_fewer_or_later(quote))}"
        )


def objection(quote: Quote) -> Problem | None:
    """Why a run must not begin: its budget would not hold on nine nights out of ten."""
    p90 = quote.usd.p90
    if p90 <= float(quote.budget):
        return None
    fits = (*_fewer_or_later(quote), f"--budget {budget_that_fits(quote)}")
    what = f"is less than {amount(p90)} USD, what nine nights out of ten keep within (the p90)"
    return Problem(f"--budget {quote.budget}", what, _fitting(fits))


def budget_that_fits(quote: Quote) -> Decimal:
    """A budget that the same batch keeps within, in whole cents."""
    return (Decimal(quote.usd.p90) * ROOM).quantize(CENT, rounding=ROUND_UP)


def _fewer_or_later(quote: Quote) -> Iterator[str]:
    deadline = duration(quote.summary.script.deadline_s)
    if quote.jobs_that_fit:
        yield f"about {quote.jobs_that_fit:,} jobs within {deadline} (--limit)"
    if quote.deadline_that_fits_s is not None:
        later = duration(quote.deadline_that_fits_s)
        yield f"all of them within {later} (--by {later})"


def _fitting(fits: Iterable[str]) -> str:
    found = "; or ".join(fits)
    return f"what would fit: {found}" if found else "nothing was found that would fit"
