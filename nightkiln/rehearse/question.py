"""A quote as the question whether it may be spent, in Markdown, for people who did not see it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from nightkiln.core.approval import Rules, Unanswered
from nightkiln.gate import Ahead
from nightkiln.observers.sentences import amount, duration
from nightkiln.rehearse.quoting import Quote


def question(quote: Quote, ahead: Ahead, rules: Rules, *, wait_s: float) -> str:
    """What somebody who is to say yes or no has to know; ``wait_s``: seconds for the answer."""
    return "\n".join(_lines(quote, ahead, rules, wait_s)) + "\n"


def _lines(quote: Quote, ahead: Ahead, rules: Rules, wait_s: float) -> Iterator[str]:
    summary, usd, finish_s = quote.summary, quote.usd, quote.finish_s
    machines = summary.spread(lambda night: night.leases_most)
    has_deadline = ahead.goals.deadline_s is not None
    within = f" within {duration(summary.script.deadline_s)}" if has_deadline else ""
    yield f"**May batch `{ahead.batch}` spend up to {quote.budget} USD?**"
    yield ""
    yield f"{ahead.jobs:,} jobs{within}. Nothing is rented while this waits."
    yield ""
    yield "| | p50 | p90 |"
    yield "|---|---:|---:|"
    yield f"| cost, USD | {amount(usd.p50)} | {amount(usd.p90)} |"
    yield f"| finished in | {duration(finish_s.p50)} | {duration(finish_s.p90)} |"
    yield f"| machines at once | {machines.p50:.0f} | {machines.p90:.0f} |"
    yield ""
    if has_deadline:
        yield f"The deadline was met on {summary.deadline_met_fraction:.0%} of the nights played."
    until = datetime.fromtimestamp(ahead.now_s + wait_s, UTC)
    silence = (
        f"what {rules.above:.2f} USD pay for is rendered"
        if rules.unanswered is Unanswered.PART
        else "nothing is rendered"
    )
    yield (
        f"Asked because the p90 is above {rules.above:.2f} USD. Without an answer within "
        f"{duration(wait_s)} (until {until:%H:%M} UTC) {silence}. The deadline does not wait."
    )
    yield ""
    yield (
        "With a lower cap, no more than that is spent; what it does not pay for is left for the "
        "next run of the batch."
    )
