"""Events, progress and outcomes as sentences; shared by everything that writes for people."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from nightkiln.night import Outcome
from nightkiln.ports.observer import Progress

STARTING_SHOWN_MAX = 3
DIGITS_BELOW_USD = 0.1  # less than that is told in more digits than cents
CENT = Decimal("0.01")  # a smaller difference is not worth a line
_SENTENCES = {
    "planned": "batch {batch}: {total} jobs, {settled} settled before, {reused} reused, "
    "{adopted} adopted, {left} to do",
    "shared_out": "batch {batch} is shared out to {controllers} controllers",
    "share_begun": "{share} is worked on by {host}",
    "share_ended": "{share} has ended on {host}",
    "share_cut_short": "{share} was cut short on {host}: {said}",
    "share_lost": "{share} is lost: {host} died, or gave no sign of life for a minute; another "
    "one goes on with it",
    "quoting": "quoting {jobs:,} jobs, in {seconds_max} s at most; nothing is rented yet",
    "account": "{told}",
    "app": "{told}",
    "quoted": "{told}",
    "month": "{told}",
    "lease_ready": "{host} is ready",
    "lease_lost": "{host} is lost: {error}",
    "lease_released": "{host} is released: {reason}",
    "lease_called_off": "{host} is called off before it is ready: {reason}",
    "lease_closed": "{host} is no more: {reason}",
    "lease_not_released": "{host}: NOT RELEASED, as far as {provider} confirmed ({error}); "
    "{what_to_do} (lease {lease_id})",
    "attempt_failed": "{host} failed job {job_id:.12} ({fault}, {kind}): {error}",
    "job_failed": "job {job_id:.12} is given up ({fault}): {error}",
    "provider_failed": "provider {provider} failed: {error}",
    "stopping": "stopping: {reason}",
    "warning": "{message}",
}


def sentence(name: str, fields: Mapping[str, Any]) -> str | None:
    """What happened, for people; None for what only programs want to know."""
    form = _SENTENCES.get(name)
    return form.format_map(fields) if form is not None else None


def amount(usd: float) -> str:
    """Cents, and of little money a hundredth of them."""
    return f"{usd:.2f}" if usd >= DIGITS_BELOW_USD or not usd else f"{usd:.4f}"


def duration(seconds: float) -> str:
    """``93.0`` as ``1m33s``."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minute:02d}m"
    return f"{minute}m{second:02d}s" if minute else f"{second}s"


def counts(progress: Progress) -> str:
    """Where the batch stands, in one line."""
    reused = f", {progress.reused} reused" if progress.reused else ""
    eta = f", {duration(progress.eta_s)} left" if progress.eta_s is not None else ""
    return (
        f"{progress.done}/{progress.total} done{reused}, {progress.failed} failed, "
        f"{progress.left} left, {progress.images_per_minute:.0f} images/min{eta}"
    )


def starting(progress: Progress) -> str:
    """What the machines that are coming up are doing; empty: none is."""
    told = [f"{worker.host} is {worker.doing}" for worker in progress.workers if worker.doing]
    more = f", and {len(told) - STARTING_SHOWN_MAX} more" if len(told) > STARTING_SHOWN_MAX else ""
    return ", ".join(told[:STARTING_SHOWN_MAX]) + more


def outcome_facts(outcome: Outcome) -> list[str]:
    """What came of a run, and why it stopped if it stopped early."""
    reused = f", {outcome.reused} reused" if outcome.reused else ""
    first = (
        f"batch {outcome.batch}: {outcome.done} of {outcome.total} jobs done{reused}, "
        f"{outcome.failed} failed, {outcome.left} left, in {duration(outcome.elapsed_s)}"
    )
    quoted = outcome.quoted
    expected = (
        f" (quoted: p50 {quoted.usd_p50:.2f}, p90 {quoted.usd_p90:.2f} USD)" if quoted else ""
    )
    facts = [first + (f", for {outcome.usd:.2f} USD{expected}" if outcome.usd else "")]
    if outcome.usd_billed is not None and abs(outcome.usd_billed - outcome.usd) >= CENT:
        facts.append(
            f"the providers have billed {outcome.usd_billed:.2f} USD for the batch until now; "
            "their bills may still grow"
        )
    if outcome.stop_reason is not None:
        facts.append(f"stopped early: {outcome.stop_reason}")
    if outcome.not_released:
        leases = ", ".join(outcome.not_released)
        more = f", up to {outcome.usd_open:.2f} USD more" if outcome.usd_open else ""
        facts.append(
            f"NOT RELEASED, as far as was confirmed: {leases}; see what is still billed{more}"
        )
    return facts


def outcome_lines(outcome: Outcome) -> list[str]:
    """What came of a run, and what to do next."""
    lines = outcome_facts(outcome)
    if outcome.left > outcome.left_out:
        lines.append("the same command again does what is left")
    if outcome.left_out:
        lines.append(f"{outcome.left_out} were not asked for; `nightkiln run` does them")
    if outcome.failed:
        lines.append(
            _ask(outcome, "select error, count(*) from jobs where status = 'failed' group by 1")
        )
    else:
        lines.append(_ask(outcome, "select status, count(*) from jobs group by 1"))
    return lines


def _ask(outcome: Outcome, sql: str) -> str:
    return f'ask it: nightkiln query "{sql}" --store {outcome.store}'
