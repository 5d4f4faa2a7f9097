"""What is left of a night for people to read: one page in Markdown, and its failures by reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nightkiln.night import Outcome
from nightkiln.observers.sentences import duration
from nightkiln.store.store import Store

LEASES_SHOWN_MAX = 50
FAILURES_SHOWN_MAX = 50
CELL_CHARS_MAX = 200  # hosts and errors come from strangers' machines
_LEASES = """
select host, provider, gpu, jobs_done, attempts_failed, busy_s, usd, reason,
       count(*) over () as leases, sum(usd) over () as usd_all,
       sum(usd_estimated) filter (usd_billed is not null) over () as estimated_all,
       sum(usd_billed) over () as billed_all
from leases where batch = ? order by rented_at, lease_id limit ?
"""
_FAILURES = """
select fault, left(error, ?) as reason, count(*) as jobs, left(any_value(prompt), ?) as example
from jobs where batch = ? and status = 'failed'
group by all order by jobs desc, reason limit ?
"""
_ASK = (
    "select status, count(*) as jobs, sum(gpu_seconds) as gpu_seconds, sum(usd) as usd\n"
    "from jobs where batch = '{batch}' group by 1;"
)


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a batch."""

    page: str  # Markdown
    failures: Sequence[Mapping[str, Any]]  # most frequent first, JSON-safe; empty: none


def report_of(store: Store, outcome: Outcome) -> Report:
    """The report on a run that has ended; reads the store.

    Raises:
        StoreUnusable: it cannot be read.
    """
    with store.connect("jobs") as con:
        leases = _rows(con.execute(_LEASES, [outcome.batch, LEASES_SHOWN_MAX]))
        asked = [CELL_CHARS_MAX, CELL_CHARS_MAX, outcome.batch, FAILURES_SHOWN_MAX]
        failures = _rows(con.execute(_FAILURES, asked)) if outcome.failed else []
    parts = [_head(outcome, leases), _fleet(leases), _where(outcome, store)]
    return Report("\n\n".join(part for part in parts if part) + "\n", failures)


def _rows(answer: Any) -> list[dict[str, Any]]:
    names = [column[0] for column in answer.description]
    return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]


def _head(outcome: Outcome, leases: Sequence[Mapping[str, Any]]) -> str:
    usd = leases[0]["usd_all"] if leases else 0
    rows: list[tuple[object, ...]] = [
        ("jobs", outcome.total),
        ("done", outcome.done),
        ("reused from other batches", outcome.reused),
        ("failed", outcome.failed),
        ("left for the next run", outcome.left),
        ("adopted from an earlier run", outcome.adopted),
        ("files verified by this run", outcome.outputs),
        ("time", duration(outcome.elapsed_s)),
        ("cost of all runs", f"{usd:.2f} USD"),
    ]
    if leases and leases[0]["billed_all"] != leases[0]["estimated_all"]:
        billed, estimated = leases[0]["billed_all"], leases[0]["estimated_all"]
        rows.append(("of which billed so far", f"{billed:.2f} USD, by our count {estimated:.2f}"))
    if outcome.quoted is not None:
        said = outcome.quoted
        rows.append(("quoted for this run", f"p50 {said.usd_p50:.2f}, p90 {said.usd_p90:.2f} USD"))
    lines = [f"# {outcome.batch}"]
    if outcome.stop_reason is not None:
        lines.append(f"**Stopped early:** {cell(outcome.stop_reason)}")
    if outcome.not_released:
        open_leases = cell(", ".join(outcome.not_released))
        more = f", up to {outcome.usd_open:.2f} USD more" if outcome.usd_open else ""
        lines.append(
            f"**Not released**, as far as was confirmed: {open_leases}. See what is billed{more}."
        )
    lines.append(_table(rows[0], rows[1:]))
    return "\n\n".join(lines)


def _fleet(leases: Sequence[Mapping[str, Any]]) -> str:
    if not leases:
        return ""
    header = ("host", "provider", "GPU", "jobs done", "attempts failed", "GPU time", "USD", "end")
    rows = [
        (
            lease["host"],
            lease["provider"],
            lease["gpu"],
            lease["jobs_done"],
            lease["attempts_failed"],
            duration(lease["busy_s"]),
            f"{lease['usd']:.2f}",
            lease["reason"],
        )
        for lease in leases
    ]
    hidden = leases[0]["leases"] - len(leases)
    more = f"\n\nand {hidden} more, in the view `leases`" if hidden else ""
    return f"## Machines\n\n{_table(header, rows)}{more}"


def _where(outcome: Outcome, store: Store) -> str:
    ask = _ASK.format(batch=outcome.batch)
    return (
        f"## Where it is\n\nImages: `{store.where('images')}/{outcome.batch}`\n\n"
        f"Ask in DuckDB (`{store.where('views.sql')}` says how), or with "
        f"`nightkiln query --store {store.uri}`:\n\n```sql\n{ask}\n```"
    )


def _table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell(value) for value in line) + " |" for line in lines)


def cell(value: object) -> str:
    """A stranger's text as one harmless line of a Markdown table."""
    line = " ".join(str(value).split())[:CELL_CHARS_MAX]
    for special in "\\`*_[]<>|":
        line = line.replace(special, "\\" + special)
    return line
