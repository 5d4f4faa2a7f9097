"""A receipt in words: one page of Markdown, the same on a terminal and in Prefect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, tzinfo
from decimal import Decimal

from nightkiln.markdown import cell, code, table
from nightkiln.observers.sentences import CENT, amount, duration
from nightkiln.receipt import Paid, Reason, Receipt, RunTold
from nightkiln.store.sql_files import sql_file

RUNS_SHOWN_MAX = 20
REASONS_SHOWN_MAX = 20
USE_WORDS = {
    "rendering": "rendering what came out",
    "startup": "start-up of machines that came up",
    "never_up": "machines that never came up",
    "failed": "tries that gave nothing",
    "hedged": "second tries that were not needed",
    "idle": "machines without work",
}
_ENDS = {
    None: "at work, or killed",
    0: "all done",
    1: "some failed",
    2: "not begun",
    3: "stopped early",
}


def page(receipt: Receipt, *, zone: tzinfo = UTC) -> str:
    """All of it. Times are shown in ``zone``."""
    return "\n\n".join(part for part in _parts(receipt, zone) if part) + "\n"


def headline(receipt: Receipt) -> str:
    """The receipt in one line."""
    failed = f", {receipt.failed:,} failed" if receipt.failed else ""
    left = f", {receipt.left:,} left" if receipt.left else ""
    reused = f" ({receipt.reused:,} of them reused)" if receipt.reused else ""
    done = receipt.done + receipt.reused
    return f"{done:,} of {receipt.jobs:,} jobs done{reused}{failed}{left}, for {_usd(receipt)}"


def _usd(receipt: Receipt) -> str:
    billed = [one for one in receipt.paid if one.usd_billed is not None]
    bills = sum((one.usd_billed for one in billed if one.usd_billed is not None), Decimal(0))
    counted = sum((one.usd_counted for one in billed if one.usd_counted is not None), Decimal(0))
    said = f"{_money(receipt.usd)} USD"
    if abs(bills - counted) >= CENT:
        said += f" (providers have billed {_money(bills)} where we count {_money(counted)})"
    return said


def _parts(receipt: Receipt, zone: tzinfo) -> Iterator[str]:
    yield f"# {cell(receipt.batch)}"
    yield f"**{cell(headline(receipt), chars_max=500)}**"
    yield "\n".join(_alarms(receipt))
    yield table(("", ""), _facts(receipt))
    yield _runs(receipt, zone)
    yield _money_page(receipt)
    yield _failures(receipt.reasons, receipt.batch)
    yield _fallback(receipt)
    yield _further(receipt)


def _alarms(receipt: Receipt) -> Iterator[str]:
    """What somebody has to do something about, first."""
    for one in receipt.paid:
        if one.not_released:
            leases = f"{one.not_released} leases at {cell(one.provider)}"
            yield f"- **Not released**, as far as was confirmed: {leases}. See what is billed."
    last = receipt.runs[-1]
    if last.exit_code is None:
        yield "- The newest run is still at work, or was killed: `nightkiln status` says which."
    elif receipt.left:
        why = f": {cell(last.stop_reason, chars_max=400)}" if last.stop_reason else ""
        yield f"- **{receipt.left:,} jobs are left**{why}. The next run of the batch does them."


def _facts(receipt: Receipt) -> list[tuple[object, ...]]:
    per_1000 = receipt.usd / receipt.done * 1000 if receipt.done else None
    waste = f"{receipt.waste_usd / receipt.usd:.0%}" if receipt.usd else ""
    rows: list[tuple[object, object]] = [
        ("done", f"{receipt.done:,}"),
        ("reused from other batches", f"{receipt.reused:,}" if receipt.reused else ""),
        ("failed", f"{receipt.failed:,}"),
        ("left for the next run", f"{receipt.left:,}" if receipt.left else ""),
        ("took more than one try", f"{receipt.again:,}" if receipt.again else ""),
        ("cost of all runs", f"{_money(receipt.usd)} USD"),
        ("for 1000 jobs", f"{_money(per_1000)} USD" if per_1000 else ""),
        ("of which waste", waste),
    ]
    return [("catalog", receipt.catalog), *(row for row in rows if row[1])]


def _runs(receipt: Receipt, zone: tzinfo) -> str:
    shown = receipt.runs[-RUNS_SHOWN_MAX:]
    rows = [row for run in shown for row in _run_rows(run, zone)]
    if not rows:
        return ""
    header = ("run", "", "promised", "came to", "")
    hidden = len(receipt.runs) - len(shown)
    more = f"\n\nand {hidden} earlier runs, in the view `runs`" if hidden else ""
    return f"## Against quote, budget and deadline\n\n{table(header, rows)}{more}"


def _run_rows(run: RunTold, zone: tzinfo) -> Iterator[tuple[object, ...]]:
    """What one run was held to; first how it went."""
    began = _at(run.started_s, zone)
    took = duration(run.ended_s - run.started_s) if run.ended_s is not None else ""
    yield (run.epoch, "ran", f"from {began}", took, _ENDS.get(run.exit_code, run.exit_code))
    quote, has_ended = run.promise, run.exit_code is not None
    if quote is not None:
        promised = f"p50 {_money(quote.usd_p50)}, p90 {_money(quote.usd_p90)} USD"
        inside = "inside" if run.usd <= quote.usd_p90 else "above"
        said = inside if quote.verdict == "taken" else f"{quote.verdict}: nothing was rented"
        yield ("", "quote", promised, f"{_money(run.usd)} USD", said)
        promised = f"p50 {duration(quote.finish_s_p50)}, p90 {duration(quote.finish_s_p90)}"
        if run.last_s is not None and quote.verdict == "taken":
            took_s = max(0.0, run.last_s - quote.decided_s)
            inside = "inside" if took_s <= quote.finish_s_p90 else "later"
            yield ("", "last job after", promised, duration(took_s), inside if has_ended else "")
    if run.budget_usd is not None:
        kept = "kept" if run.usd <= run.budget_usd else "EXCEEDED"
        yield ("", "budget", f"{_money(run.budget_usd)} USD", f"{_money(run.usd)} USD", kept)
    if run.deadline_s is not None:
        last = _at(run.last_s, zone) if run.last_s is not None else ""
        made = {True: "made", False: "MISSED", None: ""}[run.is_in_time]
        yield ("", "deadline", _at(run.deadline_s, zone), last, made)


def _money_page(receipt: Receipt) -> str:
    if not receipt.paid:
        return ""
    header = ("provider", "leases", "never up", "jobs", "USD", "billed until now")
    rows = [_provider(one) for one in receipt.paid]
    if receipt.usd_beside:
        rows.append(("beside leases", "", "", "", _money(receipt.usd_beside), ""))
    parts = [f"## By provider\n\n{table(header, rows)}"]
    if receipt.usd:
        providers = [one for one in receipt.paid if one.usd]
        uses = [
            (words, *(_money(one.uses[use]) for one in providers))
            for use, words in USE_WORDS.items()
            if any(one.uses[use] for one in providers)
        ]
        names = ("USD for", *(one.provider for one in providers))
        parts.append(f"## What it was for\n\n{table(names, uses)}")
    return "\n\n".join(parts)


def _provider(one: Paid) -> tuple[object, ...]:
    billed = _money(one.usd_billed) if one.usd_billed is not None else ""
    return (one.provider, one.leases, one.never_up, one.jobs, _money(one.usd), billed)


def _failures(reasons: Sequence[Reason], batch: str) -> str:
    if not reasons:
        return ""
    header = ("jobs failed", "tries", "done elsewhere", "fault", "reason", "example", "job")
    rows = [
        (
            one.jobs_failed,
            one.tries,
            one.jobs_done_elsewhere,
            one.fault if one.fault is not None else one.how,
            one.example_error if one.tries == 1 else one.reason,
            one.example_prompt if one.example_prompt is not None else "",
            one.example_job_id[:12],
        )
        for one in reasons[:REASONS_SHOWN_MAX]
    ]
    hidden = len(reasons) - len(rows)
    more = f"\n\nand {hidden} more kinds, in the view `failures`" if hidden else ""
    why = f"`nightkiln why {batch} JOB` tells every try of one job."
    return f"## What went wrong\n\n{table(header, rows)}{more}\n\n{why}"


def _fallback(receipt: Receipt) -> str:
    parts = []
    if receipt.fell_back:
        header = ("provider", "leases", "jobs", "USD", "because")
        rows = [
            (one.provider, one.leases, one.jobs, _money(one.usd), one.why)
            for one in receipt.fell_back
        ]
        parts.append(f"## What fell back, and why\n\n{table(header, rows)}")
    if not receipt.is_story_whole:
        parts.append(
            "The stories of this batch are too long to be read here, or damaged: "
            f"`nightkiln why {receipt.batch}` says why each machine was rented."
        )
    return "\n\n".join(parts)


def _further(receipt: Receipt) -> str:
    where = f"--store {receipt.store}"
    # A batch's name is made of letters that mean nothing in SQL.
    asks = sql_file("receipt_questions", batch=receipt.batch)
    return (
        f"## Where it is\n\nImages: `{receipt.images}`. A page to look through them: "
        f"`nightkiln gallery {receipt.batch} {where}`\n\n"
        f"## To dig deeper\n\nIn DuckDB (`{receipt.views}` says how), or with "
        f'`nightkiln query "..." {where}`:\n\n{code(asks, "sql")}\n\n'
        f"Why each machine was rented and released: `nightkiln why {receipt.batch} {where}`"
    )


def _money(usd: Decimal | float) -> str:
    return amount(float(usd))


def _at(epoch_s: float, zone: tzinfo) -> str:
    return f"{datetime.fromtimestamp(epoch_s, zone):%Y-%m-%d %H:%M %Z}"
