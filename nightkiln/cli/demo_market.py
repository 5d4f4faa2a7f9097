"""``nightkiln demo --night market``: a faulty night on two simulated providers, and its receipt."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from decimal import Decimal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nightkiln.cli.printing import plain
from nightkiln.cli.run import say_outcome, watching
from nightkiln.market_night import INTRODUCTION, TIMES, Watched, play, quote
from nightkiln.market_receipt import WASTE, Receipt, receipt_of
from nightkiln.night import Outcome
from nightkiln.observers.sentences import duration, outcome_facts
from nightkiln.rehearse import Quote
from nightkiln.settings import load_settings
from nightkiln.testing import hurried_time
from nightkiln.wiring import open_store

COLUMNS = 100  # that the receipt fits into
ERROR_CHARS_MAX = 60
HOW_IT_ENDED = {
    "failed": "failed",
    "lost": "machine lost",
    "cancelled": "taken back",
    "hedge": "was not needed",
}


def market_demo(store: str, *, as_json: bool, times: float = TIMES) -> Outcome:
    """Play the night, so many times as fast as it was, and print its receipt."""
    console = Console(width=COLUMNS, soft_wrap=False, highlight=False)
    if not as_json:
        console.print(INTRODUCTION.format(times=times))
    expected = quote()
    watched = hurried_time.run(_watched(store, expected, as_json=as_json), times=times)
    opened = open_store(load_settings(store=store))
    receipt = receipt_of(watched, opened)
    if as_json:
        say_outcome(watched.outcome, as_json=True)
        line = {"event": "receipt", **receipt.facts()}
        sys.stdout.write(json.dumps(line, default=plain) + "\n")
        return watched.outcome
    for said in outcome_facts(watched.outcome):
        console.print(said, markup=False)
    for part in told(receipt):
        console.print(part)
    name = watched.outcome.batch
    console.print(f"every decision: nightkiln why {name} --store {opened.uri}", soft_wrap=True)
    return watched.outcome


async def _watched(store: str, expected: Quote, *, as_json: bool) -> Watched:
    with watching(as_json=as_json) as (observer, switch):
        return await play(store, observer, expected=expected, switch=switch)


def told(receipt: Receipt) -> Iterator[Table | str]:
    """The receipt, table by table; no line is longer than ``COLUMNS``."""
    yield _costs(receipt)
    yield _waste(receipt)
    if receipt.tries:
        yield _tries(receipt)
    if receipt.fell_back:
        yield _fell_back(receipt)
    yield from _verdicts(receipt)


def _table(title: str, *columns: str) -> Table:
    """The first column is words, the others are figures, unless they end in a full stop."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold")
    for index, column in enumerate(columns):
        is_words = index == 0 or column.endswith(".")
        table.add_column(column.rstrip("."), justify="left" if is_words else "right")
    return table


def _costs(receipt: Receipt) -> Table:
    columns = (
        "provider",
        "kind.",
        "leases",
        "no start",
        "called off",
        "taken away",
        "jobs",
        "USD",
        "USD/job",
    )
    table = _table(f"Receipt of {receipt.batch}", *columns)
    for one in receipt.rented:
        counts = (one.leases, one.failed_starts, one.called_off, one.lost, one.jobs)
        each = usd(one.usd / one.jobs) if one.jobs else "-"
        table.add_row(one.provider, one.kind, *map(str, counts), usd(one.usd), each)
    rented = receipt.rented
    totals = (
        sum(one.leases for one in rented),
        sum(one.failed_starts for one in rented),
        sum(one.called_off for one in rented),
        sum(one.lost for one in rented),
        receipt.jobs_done,
    )
    each = usd(receipt.usd_per_job) if receipt.usd_per_job is not None else "-"
    table.add_section()
    table.add_row("all", "", *map(str, totals), usd(receipt.billed_usd), each)
    return table


def _waste(receipt: Receipt) -> Table:
    table = _table("Of that, waste", "what for", "USD", "share")
    total = float(receipt.billed_usd)
    for name, what in WASTE.items():
        spent = receipt.waste_usd[name]
        table.add_row(what, usd(spent), f"{spent / total:.1%}" if total else "-")
    table.add_section()
    wasted = sum(receipt.waste_usd.values())
    table.add_row("all", usd(wasted), f"{receipt.waste_fraction:.1%}")
    return table


def _tries(receipt: Receipt) -> Table:
    title = f"Tries that gave nothing; {receipt.jobs_retried} jobs were tried more than once"
    table = _table(title, "how it ended", "whose fault.", "what was said.", "tries", "then done")
    for one in receipt.tries:
        how = HOW_IT_ENDED.get(one.how, one.how)
        fault = one.fault if one.fault is not None else "-"
        said = one.error[:ERROR_CHARS_MAX] if one.error else "-"
        table.add_row(how, fault, Text(said), str(one.tries), str(one.jobs_done_elsewhere))
    return table


def _fell_back(receipt: Receipt) -> Table:
    table = _table("What fell back, and why", "reason", "leases", "jobs", "USD")
    for one in receipt.fell_back:
        table.add_row(one.why, str(one.leases), str(one.jobs), usd(one.usd))
    return table


def _verdicts(receipt: Receipt) -> Iterator[str]:
    budget = "within" if receipt.is_within_budget else "ABOVE"
    yield (
        f"budget   {usd(receipt.billed_usd)} billed, {usd(receipt.ledger_usd)} by our own ledger: "
        f"{budget} {usd(receipt.budget_usd)} USD"
    )
    yield from _against_quote(receipt)
    when = "before" if receipt.is_in_time else "NOT before"
    yield (
        f"deadline the last job was done after {duration(receipt.finish_s)}: "
        f"{when} {duration(receipt.deadline_s)}"
    )
    yield (
        f"jobs     {receipt.jobs_done} done, {receipt.jobs_failed} failed, {receipt.jobs_left} left"
    )


def _against_quote(receipt: Receipt) -> Iterator[str]:
    """What was said before the night, and what it was."""
    said = receipt.quoted
    if said is None:
        return
    cost = "inside" if receipt.is_inside_usd else "ABOVE"
    finish = "inside" if receipt.is_inside_finish else "AFTER"
    yield (
        f"quote    p50 {usd(said.usd_p50)}, p90 {usd(said.usd_p90)} USD: the bill is {cost} its p90"
    )
    yield (
        f"         p50 {duration(said.finish_s_p50)}, p90 {duration(said.finish_s_p90)}: the last "
        f"job was {finish} its p90"
    )


def usd(amount: Decimal | float) -> str:
    """A cent is much where a job costs less."""
    return f"{amount:.4f}"
